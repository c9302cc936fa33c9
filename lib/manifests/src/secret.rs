//! Secrets without their values, which is all that a decision needs, and with them for a Pod that is going to run.
//!
//! What is never read cannot end up in a message, and a Secret that is encrypted at rest (SOPS), holds placeholders or is
//! not base64 does not stop anybody.

use k8s_openapi::ByteString;
use serde_json::{Map, Value};

use crate::path::{FieldPath, Step};
use crate::sanity::Refusal;

/// Makes every value of a Secret an empty text; what cannot be a value is refused without being told.
pub(crate) fn forget_values(secret: &mut Value) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for name in ["data", "stringData"] {
        match secret.get_mut(name) {
            None | Some(Value::Null) => {}
            Some(Value::Object(entries)) => {
                for (key, value) in entries {
                    if !(value.is_string() || value.is_null()) {
                        let path = FieldPath(vec![Step::Field(name.to_owned()), Step::Field(key.clone())]);
                        refusals.push(Refusal { field: path, message: "Invalid value: must be a text".to_owned() });
                    }
                    *value = "".into();
                }
            }
            Some(other) => {
                *other = Value::Null;
                let message = "Invalid value: must be a map of texts".to_owned();
                refusals.push(Refusal { field: FieldPath::of(name), message });
            }
        }
    }
    refusals
}

/// Moves the texts of `stringData` into `data`, as the API server does; what cannot be a value is refused without being
/// told, and left out.
pub(crate) fn fold_texts(secret: &mut Value) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut values = Map::new();
    for (name, wanted) in [("data", "must be base64"), ("stringData", "must be a text")] {
        let Some(written) = secret.as_object_mut().and_then(|fields| fields.remove(name)) else { continue };
        let refuse = |path: Vec<Step>, wanted: &str| Refusal {
            field: FieldPath(path),
            message: format!("the value {wanted}; it is not shown here"),
        };
        match written {
            Value::Null => {}
            Value::Object(entries) => {
                for (key, value) in entries {
                    match encoded(name, value) {
                        Some(value) => drop(values.insert(key, value)),
                        None => refusals.push(refuse(vec![Step::Field(name.to_owned()), Step::Field(key)], wanted)),
                    }
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                refusals.push(refuse(vec![Step::Field(name.to_owned())], "must be a map"));
            }
        }
    }
    if let Some(fields) = secret.as_object_mut() {
        fields.insert("data".to_owned(), Value::Object(values));
    }
    refusals
}

/// The value as it stands in `data`, or `None` where it cannot stand there.
fn encoded(field: &str, value: Value) -> Option<Value> {
    if field == "data" {
        return match serde_json::from_value::<ByteString>(value.clone()) {
            Ok(_) => Some(value),
            Err(_) => value.is_null().then(|| "".into()),
        };
    }
    let text = if value.is_null() { "" } else { value.as_str()? };
    serde_json::to_value(ByteString(text.as_bytes().to_vec())).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::fold_texts;

    #[test]
    fn texts_win_over_data_and_stand_there_as_base64() {
        let mut secret = json!({"data": {"a": "MQ==", "b": "Mg=="}, "stringData": {"b": "two", "c": null}});
        assert_eq!(fold_texts(&mut secret), []);
        assert_eq!(secret, json!({"data": {"a": "MQ==", "b": "dHdv", "c": ""}}));
    }

    #[test]
    fn what_is_no_value_is_refused_without_being_shown() {
        let mut secret = json!({"data": {"a": "hunter2!", "b": 5}, "stringData": ["hunter2"]});
        let refusals = fold_texts(&mut secret);
        let shown: Vec<_> = refusals.iter().map(|refusal| format!("{}: {}", refusal.field, refusal.message)).collect();
        assert_eq!(
            shown,
            [
                "data.a: the value must be base64; it is not shown here",
                "data.b: the value must be base64; it is not shown here",
                "stringData: the value must be a map; it is not shown here"
            ]
        );
        assert_eq!(secret, json!({"data": {}}));
    }
}
