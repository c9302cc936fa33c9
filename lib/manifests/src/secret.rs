//! Secrets without their values: which keys one has is all that a decision needs.
//!
//! What is never read cannot end up in a message, and a Secret that is encrypted at rest (SOPS), holds placeholders or is
//! not base64 does not stop anybody.

use serde_json::Value;

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
