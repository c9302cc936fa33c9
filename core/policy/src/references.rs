//! Keys of ConfigMaps and Secrets that a Pod asks for and that are not there.
//!
//! Kubernetes accepts such a Pod and then never starts its container. Where the object is at hand, as in the manifests
//! that `monopod explain` reads, the slip can be told beforehand. Objects that are not at hand are not judged: they may
//! well exist in the cluster.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, KeyToPath, Pod, Secret, Volume};

/// One key that is asked for in vain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {object} has no key \"{key}\"; the Pod would wait for it and not start")]
pub struct MissingKey {
    /// Path of the field that names the key.
    pub field: String,
    /// The object, such as `ConfigMap shop/web`.
    pub object: String,
    /// The key.
    pub key: String,
}

/// Kind, namespace and name of an object that holds keys.
type ObjectName<'a> = (&'static str, &'a str, &'a str);

/// The keys of all ConfigMaps and Secrets at hand.
#[derive(Clone, Debug, Default)]
pub struct Keys<'a> {
    of: BTreeMap<ObjectName<'a>, BTreeSet<&'a str>>,
}

/// A reference to keys of one object.
struct Reference<'a> {
    field: String,
    kind: &'static str,
    name: &'a str,
    keys: Vec<&'a str>,
    optional: bool,
}

impl<'a> Keys<'a> {
    /// Takes note of the keys of these objects.
    pub fn new(
        config_maps: impl IntoIterator<Item = &'a ConfigMap>,
        secrets: impl IntoIterator<Item = &'a Secret>,
    ) -> Self {
        let mut keys = Self::default();
        for map in config_maps {
            let names = map.data.iter().flat_map(BTreeMap::keys).chain(map.binary_data.iter().flat_map(BTreeMap::keys));
            keys.note("ConfigMap", &map.metadata.namespace, &map.metadata.name, names);
        }
        for secret in secrets {
            let data = secret.data.iter().flat_map(BTreeMap::keys);
            let names = data.chain(secret.string_data.iter().flat_map(BTreeMap::keys));
            keys.note("Secret", &secret.metadata.namespace, &secret.metadata.name, names);
        }
        keys
    }

    fn note(
        &mut self,
        kind: &'static str,
        namespace: &'a Option<String>,
        name: &'a Option<String>,
        keys: impl Iterator<Item = &'a String>,
    ) {
        let namespace = namespace.as_deref().unwrap_or("default");
        let object = (kind, namespace, name.as_deref().unwrap_or_default());
        self.of.entry(object).or_default().extend(keys.map(String::as_str));
    }

    /// Every key that the Pod asks for, that it needs, and that the object at hand does not have.
    pub fn missing(&self, pod: &Pod) -> Vec<MissingKey> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let mut missing = Vec::new();
        for reference in references(pod).into_iter().filter(|reference| !reference.optional) {
            let Some(present) = self.of.get(&(reference.kind, namespace, reference.name)) else { continue };
            for key in reference.keys.into_iter().filter(|key| !present.contains(key)) {
                let object = format!("{} {namespace}/{}", reference.kind, reference.name);
                missing.push(MissingKey { field: reference.field.clone(), object, key: key.to_owned() });
            }
        }
        missing
    }
}

/// Every place of a Pod that names keys: variables and volumes.
fn references(pod: &Pod) -> Vec<Reference<'_>> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten().enumerate().map(|(index, c)| ("initContainers", index, c));
    let ordinary = spec.containers.iter().enumerate().map(|(index, c)| ("containers", index, c));
    let mut found: Vec<Reference<'_>> = init
        .chain(ordinary)
        .flat_map(|(list, index, container)| of_container(&format!("spec.{list}[{index}]"), container))
        .collect();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        of_volume(&format!("spec.volumes[{index}]"), volume, &mut found);
    }
    found
}

fn of_container<'a>(path: &str, container: &'a Container) -> Vec<Reference<'a>> {
    let variables = container.env.iter().flatten().enumerate();
    let sources = variables.filter_map(|(index, variable)| Some((index, variable.value_from.as_ref()?)));
    sources.filter_map(|(index, source)| of_variable(&format!("{path}.env[{index}].valueFrom"), source)).collect()
}

fn of_variable<'a>(path: &str, source: &'a EnvVarSource) -> Option<Reference<'a>> {
    let of_map = source.config_map_key_ref.as_ref().map(|key| Reference {
        field: format!("{path}.configMapKeyRef.key"),
        kind: "ConfigMap",
        name: &key.name,
        keys: vec![&key.key],
        optional: key.optional == Some(true),
    });
    let of_secret = || {
        source.secret_key_ref.as_ref().map(|key| Reference {
            field: format!("{path}.secretKeyRef.key"),
            kind: "Secret",
            name: &key.name,
            keys: vec![&key.key],
            optional: key.optional == Some(true),
        })
    };
    of_map.or_else(of_secret)
}

fn of_volume<'a>(path: &str, volume: &'a Volume, found: &mut Vec<Reference<'a>>) {
    if let Some(source) = &volume.config_map {
        let field = format!("{path}.configMap.items");
        found.push(of_items(field, "ConfigMap", &source.name, source.items.as_deref(), source.optional));
    }
    if let Some(source) = &volume.secret {
        let (field, name) = (format!("{path}.secret.items"), source.secret_name.as_deref().unwrap_or_default());
        found.push(of_items(field, "Secret", name, source.items.as_deref(), source.optional));
    }
    let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    for (index, source) in projected.enumerate() {
        let path = format!("{path}.projected.sources[{index}]");
        if let Some(map) = &source.config_map {
            let field = format!("{path}.configMap.items");
            found.push(of_items(field, "ConfigMap", &map.name, map.items.as_deref(), map.optional));
        }
        if let Some(secret) = &source.secret {
            let field = format!("{path}.secret.items");
            found.push(of_items(field, "Secret", &secret.name, secret.items.as_deref(), secret.optional));
        }
    }
}

fn of_items<'a>(
    field: String,
    kind: &'static str,
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: Option<bool>,
) -> Reference<'a> {
    let keys = items.unwrap_or_default().iter().map(|item| item.key.as_str()).collect();
    Reference { field, kind, name, keys, optional: optional == Some(true) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{ConfigMap, Keys, Pod, Secret};

    fn missing(spec: &Value) -> Vec<String> {
        let map = json!({"metadata": {"name": "web", "namespace": "shop"}, "data": {"a": ""}, "binaryData": {"b": ""}});
        let secret =
            json!({"metadata": {"name": "web", "namespace": "shop"}, "data": {"c": ""}, "stringData": {"d": ""}});
        let map: ConfigMap = serde_json::from_value(map).expect("the test writes a ConfigMap");
        let secret: Secret = serde_json::from_value(secret).expect("the test writes a Secret");
        let pod = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).expect("the test writes a Pod");
        Keys::new([&map], [&secret]).missing(&pod).iter().map(ToString::to_string).collect()
    }

    fn env(source: &str, name: &str, key: &str, optional: bool) -> Value {
        let variable = json!({"name": "X", "valueFrom": {source: {"name": name, "key": key, "optional": optional}}});
        json!({"containers": [{"name": "web", "env": [variable]}]})
    }

    #[test]
    fn a_key_that_is_there_optional_or_in_an_object_out_of_sight_is_fine() {
        for (source, name, key, optional) in [
            ("configMapKeyRef", "web", "a", false),
            ("configMapKeyRef", "web", "b", false),
            ("secretKeyRef", "web", "c", false),
            ("secretKeyRef", "web", "d", false),
            ("secretKeyRef", "web", "x", true),
            ("configMapKeyRef", "other", "x", false),
        ] {
            assert_eq!(missing(&env(source, name, key, optional)), [""; 0], "{source} {name} {key}");
        }
    }

    #[test]
    fn a_missing_key_is_told_with_field_and_object() {
        let end = "the Pod would wait for it and not start";
        let found = missing(&env("secretKeyRef", "web", "a", false));
        let field = "spec.containers[0].env[0].valueFrom.secretKeyRef.key";
        assert_eq!(found, [format!("{field}: Secret shop/web has no key \"a\"; {end}")]);
        let items = json!([{"key": "a", "path": "a"}, {"key": "x", "path": "x"}]);
        let volumes = json!([
            {"name": "one", "configMap": {"name": "web", "items": items}},
            {"name": "two", "secret": {"secretName": "web", "items": [{"key": "c", "path": "c"}]}},
            {"name": "three", "projected": {"sources": [{"secret": {"name": "web", "items": items}}]}},
        ]);
        let found = missing(&json!({"containers": [], "volumes": volumes}));
        let projected = "spec.volumes[2].projected.sources[0].secret.items: Secret shop/web has no key";
        let expected = [
            format!("spec.volumes[0].configMap.items: ConfigMap shop/web has no key \"x\"; {end}"),
            format!("{projected} \"a\"; {end}"),
            format!("{projected} \"x\"; {end}"),
        ];
        assert_eq!(found, expected);
    }
}
