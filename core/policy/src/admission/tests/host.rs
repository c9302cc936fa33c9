//! The second line of defence: the host's verdict.

use serde_json::json;

use super::super::{Kind, ephemeral_container_verdict};
use super::{fields, host_verdict_of, kinds, pod, verdict_of};

#[test]
fn a_pod_bound_past_our_scheduler_is_refused_by_the_host() {
    for name in [json!("default-scheduler"), json!(null)] {
        let verdict = host_verdict_of(&pod(json!({ "schedulerName": name })));
        assert_eq!(verdict.message(), "Pod not supported: SchedulerName is not fargate-scheduler");
        assert_eq!(verdict.reason(), "UnsupportedPodSpec");
    }
}

#[test]
fn the_host_uses_the_same_grammar_after_its_own_opening() {
    let spec =
        json!({ "schedulerName": "mine", "hostPID": true, "volumes": [{ "name": "v", "hostPath": { "path": "/" } }] });
    let expected = "Pod not supported: SchedulerName is not fargate-scheduler, fields not supported: HostPID, \
                    volumes not supported: v is of an unsupported volume Type";
    assert_eq!(host_verdict_of(&pod(spec)).message(), expected);
}

#[test]
fn the_host_does_not_object_to_a_bound_pod_nor_to_where_it_was_placed() {
    let bound = pod(json!({ "nodeName": "fargate-ip-10-0-0-1", "nodeSelector": { "disktype": "ssd" } }));
    assert!(host_verdict_of(&bound).is_supported());
    assert_eq!(kinds(&verdict_of(&bound)), [Kind::NodeNameSet, Kind::UnsatisfiableNodeSelector]);
}

#[test]
fn the_scheduler_does_not_examine_the_schedulers_name() {
    assert!(verdict_of(&pod(json!({ "schedulerName": "default-scheduler" }))).is_supported());
}

#[test]
fn an_ephemeral_container_is_judged_alone_when_it_is_added() {
    let pod = pod(json!({
        "hostPID": true,
        "containers": [{ "name": "app", "securityContext": { "privileged": true } }],
        "ephemeralContainers": [
            { "name": "shell" }, { "name": "tracer", "securityContext": { "capabilities": { "add": ["SYS_PTRACE"] } } },
        ],
    }));
    assert!(ephemeral_container_verdict(&pod, "shell").is_supported());
    let tracer = ephemeral_container_verdict(&pod, "tracer");
    assert_eq!(tracer.message(), "Pod not supported: invalid SecurityContext fields: Capabilities added: SYS_PTRACE");
    assert_eq!(fields(&tracer), ["spec.ephemeralContainers[1].securityContext.capabilities.add"]);
    assert!(ephemeral_container_verdict(&pod, "app").is_supported(), "not an ephemeral container");
}
