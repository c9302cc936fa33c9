//! From a value to a typed object, with the fields that the type does not know.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
use kube::CustomResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::printable;
use crate::path::{FieldPath, Step};

/// A typed object and what of the value it did not take.
#[derive(Debug)]
pub(crate) struct Typed<T> {
    pub(crate) object: T,
    pub(crate) unknown: Vec<FieldPath>,
}

/// A value that does not fit its field.
#[derive(Debug)]
pub(crate) struct TypeError {
    pub(crate) field: FieldPath,
    pub(crate) message: String,
}

impl TypeError {
    /// Whether a word that YAML reads as a boolean, or a number, stands where text belongs.
    pub(crate) fn is_scalar_for_text(&self) -> bool {
        let is_scalar = ["boolean", "integer", "floating point"]
            .iter()
            .any(|kind| self.message.starts_with(&format!("invalid type: {kind} ")));
        is_scalar && self.message.ends_with("expected a string")
    }
}

/// Reads a value as `T`. An entry of a typed list has its API version and kind from the list.
pub(crate) fn read<T: DeserializeOwned>(
    mut value: Value,
    api_version: &str,
    kind: &str,
) -> Result<Typed<T>, TypeError> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    if let Value::Object(fields) = &mut value {
        fields.entry("apiVersion").or_insert_with(|| api_version.into());
        fields.entry("kind").or_insert_with(|| kind.into());
    }
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| unknown.push(FieldPath::from(&path)));
    match read {
        Ok(object) => {
            unknown.retain(|path| !is_type_meta(path));
            Ok(Typed { object, unknown })
        }
        Err(error) => {
            let message = printable(&error.to_string());
            Err(TypeError { field: FieldPath::from(&track.path()), message })
        }
    }
}

/// Names of the fields that stand where a field of a custom resource is, by its definition; none where those are not told.
pub(crate) fn fields_beside<K: CustomResourceExt>(field: &FieldPath) -> Vec<String> {
    let schema = || {
        let version = K::crd().spec.versions.into_iter().next()?;
        let parents = field.0.split_last()?.1;
        parents.iter().try_fold(version.schema?.open_api_v3_schema?, inside)
    };
    schema().and_then(|schema| schema.properties).unwrap_or_default().into_keys().collect()
}

fn inside(schema: JSONSchemaProps, step: &Step) -> Option<JSONSchemaProps> {
    match (step, schema.items) {
        (Step::Field(name), _) => schema.properties?.remove(name),
        (Step::Entry(_), Some(JSONSchemaPropsOrArray::Schema(entry))) => Some(*entry),
        (Step::Entry(_), Some(JSONSchemaPropsOrArray::Schemas(_)) | None) => None,
    }
}

/// Whether a path is one of the two fields by which the type was chosen; a type may leave them to that choice.
fn is_type_meta(path: &FieldPath) -> bool {
    matches!(path.0.as_slice(), [Step::Field(name)] if name == "apiVersion" || name == "kind")
}
