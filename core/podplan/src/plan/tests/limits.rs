//! Resources, quality of service, and the machine.

use monopod_agent_proto::v1::Resources;
use monopod_policy::sizing::{SizingSettings, size};
use monopod_types::{GiB, MiB, MilliCpu};
use serde_json::{Value, json};

use super::super::{MachineShape, QosClass, machine_shape, qos_class};
use super::support::{container, container_in, read, world};

fn resources(own: &Value, pod: &Value) -> (u64, u64, u64) {
    let request = container_in(&json!({"resources": own}), &json!({"resources": pod})).request().unwrap();
    let Resources { cpu_request_millis, cpu_limit_millis, memory_limit, .. } = request.resources.unwrap();
    (cpu_request_millis, cpu_limit_millis, memory_limit >> 20)
}

#[test]
fn limits_are_the_containers_then_the_pods_and_never_above_the_machine() {
    let none = json!({});
    for (own, pod, expected) in [
        (&none, &none, (0, 0, 0)),
        (&json!({"requests": {"cpu": "100m", "memory": "1Gi"}}), &none, (100, 0, 0)),
        (&json!({"limits": {"cpu": "500m", "memory": "64Mi"}}), &none, (500, 500, 64)),
        (&json!({"limits": {"cpu": "16", "memory": "64Gi"}, "requests": {"cpu": "200m"}}), &none, (200, 1000, 2048)),
        (&none, &json!({"limits": {"cpu": "300m", "memory": "32Mi"}}), (300, 300, 32)),
        (&json!({"limits": {"cpu": "100m"}}), &json!({"limits": {"cpu": "300m", "memory": "32Mi"}}), (100, 100, 32)),
        (&json!({"limits": {"cpu": "0", "memory": "0"}}), &none, (0, 0, 0)),
    ] {
        assert_eq!(resources(own, pod), expected, "{own} {pod}");
    }
}

fn class(containers: &Value) -> QosClass {
    qos_class(&read(&world(containers).pod))
}

#[test]
fn quality_of_service_is_that_of_kubernetes() {
    let guaranteed = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}});
    let limits_only = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let burstable = json!({"requests": {"cpu": "1"}});
    let zero = json!({"requests": {"cpu": "0"}});
    for (first, second, expected) in [
        (&guaranteed, &limits_only, QosClass::Guaranteed),
        (&guaranteed, &json!({}), QosClass::Burstable),
        (&burstable, &json!({}), QosClass::Burstable),
        (&json!({"limits": {"cpu": "1"}}), &guaranteed, QosClass::Burstable),
        (&json!({}), &zero, QosClass::BestEffort),
        (&json!({"requests": {"ephemeral-storage": "1Gi"}}), &json!({}), QosClass::BestEffort),
    ] {
        let spec = json!({"initContainers": [{"name": "i", "resources": first}], "containers": [{"name": "c", "resources": second}]});
        assert_eq!(class(&spec), expected, "{first} {second}");
    }
    let of_pod = json!({"resources": guaranteed, "containers": [{"name": "c", "resources": burstable}]});
    assert_eq!(class(&of_pod), QosClass::Guaranteed);
    let mut with_status = world(&json!({"containers": [{"name": "c"}]})).pod;
    with_status["status"] = json!({"qosClass": "Burstable"});
    assert_eq!(qos_class(&read(&with_status)).to_string(), "Burstable");
}

#[test]
fn the_less_of_the_machines_memory_is_requested_the_sooner_it_is_killed() {
    let score = |resources: Value| {
        container(&json!({"resources": resources})).request().unwrap().resources.unwrap().oom_score_adj
    };
    assert_eq!(score(json!({})), 1000);
    assert_eq!(score(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), -997);
    assert_eq!(score(json!({"requests": {"cpu": "1"}})), 999);
    assert_eq!(score(json!({"requests": {"memory": "1Mi"}})), 999);
    assert_eq!(score(json!({"requests": {"memory": "512Mi"}})), 750);
    assert_eq!(score(json!({"requests": {"memory": "2Gi"}})), 3);
    assert_eq!(score(json!({"requests": {"memory": "8Gi"}})), 3);
    let critical = container_in(&json!({}), &json!({"priorityClassName": "system-node-critical"}));
    assert_eq!(critical.request().unwrap().resources.unwrap().oom_score_adj, -997);
}

#[test]
fn a_sidecar_is_killed_no_sooner_than_the_containers_that_need_it() {
    let world = world(&json!({
        "initContainers": [{"name": "side", "restartPolicy": "Always"}, {"name": "init"}],
        "containers": [{"name": "c", "resources": {"requests": {"memory": "1Gi"}}}],
    }));
    let score = |name: &str| world.request_of(name).unwrap().resources.unwrap().oom_score_adj;
    assert_eq!((score("side"), score("init"), score("c")), (500, 999, 500));
}

#[test]
fn what_the_pod_requests_beyond_its_containers_is_shared_by_them() {
    let world = container_in(
        &json!({"resources": {"requests": {"memory": "256Mi"}}}),
        &json!({"resources": {"requests": {"memory": "1Gi"}}, "initContainers": [{"name": "i"}]}),
    );
    // (1024 - 256) / 2 = 384 MiB for each, on 2048 MiB.
    assert_eq!(world.request().unwrap().resources.unwrap().oom_score_adj, 1000 - 312);
}

#[test]
fn the_machine_is_the_size_that_policy_gives() {
    let pod = read(&container(&json!({"resources": {"requests": {"cpu": "300m", "memory": "1Gi"}}})).pod);
    let size = size(&pod, Default::default(), &SizingSettings::default()).unwrap();
    let machine = machine_shape(&size);
    assert_eq!(machine, MachineShape { cpu: MilliCpu(500), memory: MiB(2048), scratch: GiB(20) });
    assert_eq!(machine.processors(), 1);
    let processors = |cpu| MachineShape { cpu: MilliCpu(cpu), ..machine }.processors();
    assert_eq!([0, 1000, 1001, 4000].map(processors), [1, 1, 2, 4]);
}
