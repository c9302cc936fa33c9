//! Nulls among the values of maps, which the API server's decoder takes as the zero value of their type.
//!
//! A null in the place of a field is simply absent and is left to the types; inside a map it is an entry. Templates that
//! came out empty leave such entries behind: `requests: {cpu: }`.

use serde_json::Value;

use crate::path::{FieldPath, Step};

/// Fields of Kubernetes objects that are maps of quantities.
const OF_QUANTITIES: [&str; 10] = [
    "capacity",
    "default",
    "defaultRequest",
    "limits",
    "max",
    "maxLimitRequestRatio",
    "min",
    "overhead",
    "podFixed",
    "requests",
];
/// Fields of Kubernetes objects that are maps of texts.
const OF_TEXTS: [&str; 7] =
    ["annotations", "data", "labels", "matchLabels", "nodeSelector", "stringData", "volumeAttributes"];

/// A null that was replaced.
#[derive(Debug)]
pub(crate) struct Null {
    pub(crate) field: FieldPath,
    /// What stands there now, as JSON.
    pub(crate) filled: Value,
}

/// Replaces every such null, and says where they were.
pub(crate) fn fill(value: &mut Value) -> Vec<Null> {
    let mut found = Vec::new();
    descend(value, &mut FieldPath::default(), &mut found);
    found
}

fn descend(value: &mut Value, path: &mut FieldPath, found: &mut Vec<Null>) {
    match value {
        Value::Object(fields) => {
            let zero = zero_of(path);
            for (name, value) in fields {
                path.0.push(Step::Field(name.clone()));
                if let (Value::Null, Some(zero)) = (&*value, &zero) {
                    *value = zero.clone();
                    found.push(Null { field: path.clone(), filled: zero.clone() });
                }
                descend(value, path, found);
                path.0.pop();
            }
        }
        Value::Array(entries) => {
            for (index, value) in entries.iter_mut().enumerate() {
                path.0.push(Step::Entry(index));
                descend(value, path, found);
                path.0.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What a null in the map at a path stands for; `None` where it is no map of quantities or texts.
fn zero_of(path: &FieldPath) -> Option<Value> {
    match path.0.last() {
        Some(Step::Field(name)) if OF_QUANTITIES.contains(&name.as_str()) => Some("0".into()),
        Some(Step::Field(name)) if OF_TEXTS.contains(&name.as_str()) => Some("".into()),
        Some(Step::Field(_) | Step::Entry(_)) | None => None,
    }
}
