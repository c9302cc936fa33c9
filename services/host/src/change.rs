//! What may change in a Pod that runs: what the API server lets people change, and nothing else.

use k8s_openapi::api::core::v1::{EphemeralContainer, Pod, PodSpec};
use serde_json::Value;

use crate::admission::AdmissionError;

/// Places of a spec that may change, as JSON pointers with `*` for any index.
const MAY_CHANGE: [&str; 4] =
    ["/containers/*/image", "/initContainers/*/image", "/activeDeadlineSeconds", "/ephemeralContainers"];

/// The running Pod with what a newer version of it changes: labels, annotations, images, `activeDeadlineSeconds`, and
/// ephemeral containers that are new. What the newer version does not say stays as it is.
///
/// # Errors
/// When it says anything else than the running one; an ephemeral container that is there may not change either.
pub(crate) fn changed(running: &Pod, newer: &Pod) -> Result<Pod, AdmissionError> {
    let (old, new) = (spec_json(running), spec_json(newer));
    if let Some(path) = difference(&new, &old, "") {
        return Err(invalid(&format!(
            "spec{} may not change while the Pod runs; what may are labels, annotations, images, activeDeadlineSeconds and \
             new ephemeral containers; remove the Pod and run it again",
            path.replace('/', ".")
        )));
    }
    let mut pod = running.clone();
    if newer.metadata.labels.is_some() {
        pod.metadata.labels.clone_from(&newer.metadata.labels);
    }
    if newer.metadata.annotations.is_some() {
        pod.metadata.annotations.clone_from(&newer.metadata.annotations);
    }
    let (spec, wanted) = (pod.spec.get_or_insert_default(), newer.spec.clone().unwrap_or_default());
    take_images(spec, &wanted);
    spec.active_deadline_seconds = wanted.active_deadline_seconds.or(spec.active_deadline_seconds);
    for container in wanted.ephemeral_containers.into_iter().flatten() {
        add_ephemeral(spec, container)?;
    }
    if newer.status.is_some() {
        pod.status.clone_from(&newer.status);
    }
    if pod.spec != running.spec {
        pod.metadata.generation = pod.metadata.generation.map(|generation| generation.saturating_add(1));
    }
    Ok(pod)
}

fn take_images(spec: &mut PodSpec, wanted: &PodSpec) {
    let wanted = wanted.init_containers.iter().flatten().chain(&wanted.containers);
    let images: Vec<_> = wanted.map(|container| (&container.name, &container.image)).collect();
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        let image = images.iter().find(|(name, _)| **name == container.name).and_then(|(_, image)| image.as_ref());
        container.image = image.cloned().or_else(|| container.image.take());
    }
}

fn add_ephemeral(spec: &mut PodSpec, mut container: EphemeralContainer) -> Result<(), AdmissionError> {
    container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".to_owned());
    container.termination_message_policy.get_or_insert_with(|| "File".to_owned());
    container.image_pull_policy.get_or_insert_with(|| "IfNotPresent".to_owned());
    let name = container.name.clone();
    let others = spec.init_containers.iter().flatten().chain(&spec.containers);
    if others.map(|other| &other.name).any(|other| *other == name) {
        return Err(invalid(&format!("spec.ephemeralContainers: another container is called {name:?}")));
    }
    let containers = spec.ephemeral_containers.get_or_insert_default();
    match containers.iter().find(|present| present.name == name) {
        None => containers.push(container),
        Some(present) if *present == container => {}
        Some(_) => {
            return Err(invalid(&format!(
                "spec.ephemeralContainers: {name:?} is there already and may not change; give the new one another name"
            )));
        }
    }
    Ok(())
}

fn spec_json(pod: &Pod) -> Value {
    serde_json::to_value(pod.spec.clone().unwrap_or_default()).expect("API objects have text keys")
}

/// The first place where `newer` says something else than `running`, as a JSON pointer.
fn difference(newer: &Value, running: &Value, path: &str) -> Option<String> {
    if MAY_CHANGE.iter().any(|pattern| is_place(path, pattern)) {
        return None;
    }
    match (newer, running) {
        (Value::Object(newer), Value::Object(running)) => newer.iter().find_map(|(key, value)| {
            difference(value, running.get(key).unwrap_or(&Value::Null), &format!("{path}/{key}"))
        }),
        (Value::Array(newer), Value::Array(running)) if newer.len() == running.len() => newer
            .iter()
            .zip(running)
            .enumerate()
            .find_map(|(index, (newer, running))| difference(newer, running, &format!("{path}/{index}"))),
        _ => (newer != running).then(|| path.to_owned()),
    }
}

fn is_place(path: &str, pattern: &str) -> bool {
    let (path, pattern): (Vec<_>, Vec<_>) = (path.split('/').collect(), pattern.split('/').collect());
    path.len() == pattern.len() && path.iter().zip(&pattern).all(|(part, wanted)| *wanted == "*" || part == wanted)
}

fn invalid(what: &str) -> AdmissionError {
    AdmissionError::Invalid { what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::changed;

    fn pod(spec: Value, metadata: Value) -> Pod {
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn running() -> Pod {
        let containers = json!([{"name": "app", "image": "a:1", "command": ["run"], "terminationMessagePath": "/t"}]);
        pod(
            json!({"containers": containers, "restartPolicy": "Always"}),
            json!({"labels": {"a": "1"}, "generation": 1}),
        )
    }

    fn newer(container: Value, more: Value) -> Pod {
        let mut spec = json!({"containers": [{"name": "app"}]});
        merge(&mut spec["containers"][0], container);
        merge(&mut spec, more);
        pod(spec, json!({}))
    }

    fn merge(to: &mut Value, from: Value) {
        let Value::Object(from) = from else { return };
        for (key, value) in from {
            to[key] = value;
        }
    }

    #[test]
    fn labels_images_and_new_ephemeral_containers_are_taken_over() {
        let ephemeral = json!({"ephemeralContainers": [{"name": "debug", "image": "d:1"}]});
        let mut wanted = newer(json!({"image": "a:2", "command": ["run"]}), ephemeral);
        wanted.metadata.labels = Some([("a".to_owned(), "2".to_owned())].into());
        let pod = changed(&running(), &wanted).unwrap();
        assert_eq!(pod.metadata.labels, wanted.metadata.labels);
        assert_eq!(pod.metadata.generation, Some(2));
        let spec = pod.spec.clone().unwrap();
        assert_eq!(spec.containers[0].image.as_deref(), Some("a:2"));
        assert_eq!(spec.ephemeral_containers.as_ref().unwrap()[0].name, "debug");
        // Said once more, it changes nothing.
        assert_eq!(changed(&pod, &wanted).unwrap(), pod);
    }

    #[test]
    fn anything_else_is_refused_with_its_place() {
        let told = |wanted: &Pod| changed(&running(), wanted).unwrap_err().to_string();
        let command = told(&newer(json!({"command": ["other"]}), json!({})));
        assert!(command.contains("spec.containers.0.command.0 may not change while the Pod runs"), "{command}");
        let policy = told(&newer(json!({}), json!({"restartPolicy": "Never"})));
        assert!(policy.contains("spec.restartPolicy may not change"), "{policy}");
        let more = told(&newer(json!({}), json!({"containers": [{"name": "app"}, {"name": "more"}]})));
        assert!(more.contains("spec.containers may not change"), "{more}");
        let taken = told(&newer(json!({}), json!({"ephemeralContainers": [{"name": "app", "image": "d:1"}]})));
        assert!(taken.contains("another container is called \"app\""), "{taken}");
    }

    #[test]
    fn an_ephemeral_container_stays_and_may_not_change() {
        let with = |image: &str| newer(json!({}), json!({"ephemeralContainers": [{"name": "debug", "image": image}]}));
        let pod = changed(&running(), &with("d:1")).unwrap();
        assert_eq!(changed(&pod, &newer(json!({}), json!({}))).unwrap(), pod);
        let told = changed(&pod, &with("d:2")).unwrap_err().to_string();
        assert!(told.contains("\"debug\" is there already and may not change"), "{told}");
    }
}
