//! What the API server would fill into a Pod from LimitRanges and its RuntimeClass, for Pods that it has not seen.
//!
//! In a cluster the admission of the API server does this, and every decision reads the result. `monopod explain` reads
//! manifests; without the same defaults it would give a Pod a smaller microVM than the cluster does. Source of the rules:
//! Kubernetes documentation, Limit Ranges, and Runtime Class. What a LimitRange forbids is not examined.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, LimitRange, LimitRangeItem, Pod, PodSpec};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The objects of a cluster from which Pods get their defaults.
#[derive(Clone, Debug, Default)]
pub struct Defaults<'a> {
    limit_ranges: BTreeMap<&'a str, Vec<&'a LimitRange>>,
    runtime_classes: BTreeMap<&'a str, &'a RuntimeClass>,
}

/// Amounts by the name of the resource.
type ResourceList = BTreeMap<String, Quantity>;

impl<'a> Defaults<'a> {
    /// Takes the LimitRanges of any namespaces, in the order in which they apply, and the RuntimeClasses of the cluster.
    pub fn new(
        limit_ranges: impl IntoIterator<Item = &'a LimitRange>,
        runtime_classes: impl IntoIterator<Item = &'a RuntimeClass>,
    ) -> Self {
        let mut defaults = Self::default();
        for limit_range in limit_ranges {
            let namespace = limit_range.metadata.namespace.as_deref().unwrap_or("default");
            defaults.limit_ranges.entry(namespace).or_default().push(limit_range);
        }
        let named = |class: &'a RuntimeClass| Some((class.metadata.name.as_deref()?, class));
        defaults.runtime_classes = runtime_classes.into_iter().filter_map(named).collect();
        defaults
    }
}

/// The Pod as the API server would store it. Nothing that the Pod says itself is changed, and a Pod that was stored by
/// an API server with these objects stays as it is.
pub fn apply(pod: &Pod, cluster: &Defaults<'_>) -> Pod {
    let mut pod = pod.clone();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let limit_ranges = cluster.limit_ranges.get(namespace).into_iter().flatten();
    let items = limit_ranges.flat_map(|range| range.spec.iter().flat_map(|spec| &spec.limits));
    if let Some(spec) = &mut pod.spec {
        for item in items.filter(|item| item.type_ == "Container") {
            apply_limit_range(spec, item);
        }
        let class = spec.runtime_class_name.as_deref().and_then(|name| cluster.runtime_classes.get(name));
        if let Some(class) = class {
            apply_runtime_class(spec, class);
        }
    }
    pod
}

fn apply_limit_range(spec: &mut PodSpec, item: &LimitRangeItem) {
    let (limits, requests) = defaults_of(item);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        apply_to_container(container, &limits, &requests);
    }
}

/// Default limits and requests of a LimitRange. What it leaves out follows from what it says: a limit is the maximum,
/// a request is the default limit, and failing that the minimum.
fn defaults_of(item: &LimitRangeItem) -> (ResourceList, ResourceList) {
    let mut limits = item.default.clone().unwrap_or_default();
    add_missing(&mut limits, item.max.as_ref());
    let mut requests = item.default_request.clone().unwrap_or_default();
    add_missing(&mut requests, Some(&limits));
    add_missing(&mut requests, item.min.as_ref());
    (limits, requests)
}

/// A limit that the container has itself is its request before any default is.
fn apply_to_container(container: &mut Container, limits: &ResourceList, requests: &ResourceList) {
    let resources = container.resources.get_or_insert_default();
    let own_limits = resources.limits.clone();
    let requested = resources.requests.get_or_insert_default();
    add_missing(requested, own_limits.as_ref());
    add_missing(requested, Some(requests));
    add_missing(resources.limits.get_or_insert_default(), Some(limits));
}

/// A RuntimeClass adds what its sandbox takes, and the labels of the nodes that have it.
fn apply_runtime_class(spec: &mut PodSpec, class: &RuntimeClass) {
    if spec.overhead.is_none() {
        spec.overhead = class.overhead.as_ref().and_then(|overhead| overhead.pod_fixed.clone());
    }
    if let Some(selector) = class.scheduling.as_ref().and_then(|scheduling| scheduling.node_selector.as_ref()) {
        add_missing(spec.node_selector.get_or_insert_default(), Some(selector));
    }
}

fn add_missing<V: Clone>(entries: &mut BTreeMap<String, V>, others: Option<&BTreeMap<String, V>>) {
    for (name, value) in others.into_iter().flatten() {
        entries.entry(name.clone()).or_insert_with(|| value.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Defaults, LimitRange, Pod, RuntimeClass, apply};

    fn limit_range(namespace: &str, item: &Value) -> LimitRange {
        let range = json!({"metadata": {"name": "l", "namespace": namespace}, "spec": {"limits": [item]}});
        serde_json::from_value(range).expect("the test writes a LimitRange")
    }

    fn container(item: &Value) -> LimitRange {
        let mut item = item.clone();
        item["type"] = "Container".into();
        limit_range("shop", &item)
    }

    fn pod(spec: &Value) -> Pod {
        let pod = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
        serde_json::from_value(pod).expect("the test writes a Pod")
    }

    /// Resources of the only container after these LimitRanges.
    fn resources(own: &Value, ranges: &[LimitRange]) -> Value {
        let pod = pod(&json!({"containers": [{"name": "web", "resources": own}]}));
        let after = apply(&pod, &Defaults::new(ranges, []));
        assert_eq!(apply(&after, &Defaults::new(ranges, [])), after, "a second time changes nothing");
        let resources = &after.spec.expect("the Pod has a spec").containers[0].resources;
        serde_json::to_value(resources).expect("resources are JSON")
    }

    #[test]
    fn a_limit_range_gives_containers_what_they_lack() {
        let rows = [
            (
                "default and defaultRequest",
                json!({"default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}}),
                json!({}),
                json!({"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}),
            ),
            (
                "the default limit is the request where none is given",
                json!({"default": {"memory": "1Gi"}}),
                json!({}),
                json!({"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}}),
            ),
            (
                "the maximum is the limit where none is given",
                json!({"max": {"cpu": "4"}}),
                json!({}),
                json!({"limits": {"cpu": "4"}, "requests": {"cpu": "4"}}),
            ),
            (
                "the minimum is the request where nothing else is",
                json!({"min": {"cpu": "100m"}}),
                json!({}),
                json!({"limits": {}, "requests": {"cpu": "100m"}}),
            ),
            (
                "the container's own limit is its request before any default",
                json!({"default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}}),
                json!({"limits": {"cpu": "3"}}),
                json!({"limits": {"cpu": "3"}, "requests": {"cpu": "3"}}),
            ),
            (
                "what the container says stays, resource by resource",
                json!({"defaultRequest": {"cpu": "1", "memory": "1Gi"}}),
                json!({"requests": {"cpu": "5m"}}),
                json!({"limits": {}, "requests": {"cpu": "5m", "memory": "1Gi"}}),
            ),
        ];
        for (name, item, own, expected) in rows {
            assert_eq!(resources(&own, &[container(&item)]), expected, "{name}");
        }
    }

    #[test]
    fn other_namespaces_and_other_types_of_limits_play_no_part() {
        let bank = limit_range("bank", &json!({"type": "Container", "default": {"cpu": "2"}}));
        let whole = limit_range("shop", &json!({"type": "Pod", "max": {"cpu": "2"}}));
        assert_eq!(resources(&json!({}), &[bank, whole]), json!({}));
    }

    #[test]
    fn init_containers_get_defaults_too_and_the_first_limit_range_wins() {
        let ranges = [container(&json!({"default": {"cpu": "1"}})), container(&json!({"default": {"cpu": "2"}}))];
        let pod = pod(&json!({"initContainers": [{"name": "setup"}], "containers": []}));
        let after = serde_json::to_value(apply(&pod, &Defaults::new(&ranges, []))).expect("a Pod is JSON");
        assert_eq!(after["spec"]["initContainers"][0]["resources"]["requests"]["cpu"], "1");
    }

    #[test]
    fn a_runtime_class_gives_overhead_and_node_selector_to_the_pods_that_name_it() {
        let class = json!({
            "metadata": {"name": "sandbox"}, "handler": "h", "overhead": {"podFixed": {"memory": "120Mi"}},
            "scheduling": {"nodeSelector": {"sandbox": "yes"}},
        });
        let classes: [RuntimeClass; 1] = [serde_json::from_value(class).expect("the test writes a RuntimeClass")];
        let own = json!({"memory": "1Gi"});
        let rows = [
            (
                "named",
                json!({"runtimeClassName": "sandbox", "containers": []}),
                json!({"memory": "120Mi"}),
                json!("yes"),
            ),
            ("not named", json!({"containers": []}), Value::Null, Value::Null),
            ("unknown", json!({"runtimeClassName": "other", "containers": []}), Value::Null, Value::Null),
            ("own", json!({"runtimeClassName": "sandbox", "overhead": own, "containers": []}), own, json!("yes")),
        ];
        for (name, spec, overhead, label) in rows {
            let after = apply(&pod(&spec), &Defaults::new([], &classes));
            let after = serde_json::to_value(after).expect("a Pod is JSON");
            let found = (&after["spec"]["overhead"], &after["spec"]["nodeSelector"]["sandbox"]);
            assert_eq!(found, (&overhead, &label), "{name}");
        }
    }
}
