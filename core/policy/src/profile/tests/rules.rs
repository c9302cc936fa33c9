//! One row per documented fact, and the words of every reason.

use k8s_openapi::api::core::v1::Pod;
use monopod_api::{FargateProfile, FargateProfileStatus, ProfilePhase};
use monopod_types::ProfileName;
use serde_json::json;

use super::super::{CompileError, Profiles, WithoutPhase};
use super::{PodBuilder, ProfileBuilder, compile, pod_in, profile, taker};

#[test]
fn a_pod_matches_by_namespace_and_all_labels_of_any_selector() {
    let shop = || profile("p").taking("shop", &[]);
    let web = || profile("p").taking("shop", &[("app", "web")]);
    let both = || profile("p").taking("shop", &[("app", "web"), ("tier", "front")]);
    let rows: [(&str, ProfileBuilder, PodBuilder, bool); 12] = [
        ("a selector without labels takes the whole namespace", shop(), pod_in("shop").label("app", "any"), true),
        ("a selector without labels takes a pod without labels", shop(), pod_in("shop"), true),
        ("another namespace is not taken", shop(), pod_in("bank"), false),
        ("a label of the selector is on the pod", web(), pod_in("shop").label("app", "web"), true),
        ("a label of the selector is missing", web(), pod_in("shop"), false),
        ("a label of the selector has another value", web(), pod_in("shop").label("app", "api"), false),
        ("the label alone does not match in another namespace", web(), pod_in("bank").label("app", "web"), false),
        ("further labels of the pod do not matter", web(), pod_in("shop").label("app", "web").label("x", "y"), true),
        ("all labels of the selector are needed", both(), pod_in("shop").label("app", "web"), false),
        (
            "all labels of the selector are there",
            both(),
            pod_in("shop").label("app", "web").label("tier", "front"),
            true,
        ),
        ("any selector suffices", profile("p").taking("bank", &[]).taking("shop", &[]), pod_in("shop"), true),
        ("a profile without selectors takes nothing", profile("p"), pod_in("shop"), false),
    ];
    for (fact, profile, pod, taken) in rows {
        assert_eq!(taker(&[profile], pod).is_some(), taken, "{fact}");
    }
}

#[test]
fn wildcards_work_in_namespace_label_keys_and_label_values() {
    let rows: [(&str, ProfileBuilder, PodBuilder, bool); 9] = [
        ("star in the namespace", profile("p").taking("prod-*", &[]), pod_in("prod-eu"), true),
        ("question mark in the namespace", profile("p").taking("prod-?", &[]), pod_in("prod-12"), false),
        ("star alone takes every namespace", profile("p").taking("*", &[]), pod_in("anything"), true),
        (
            "star in a label value",
            profile("p").taking("shop", &[("app", "web-*")]),
            pod_in("shop").label("app", "web-1"),
            true,
        ),
        (
            "star in a label key",
            profile("p").taking("shop", &[("*/app", "web")]),
            pod_in("shop").label("x.io/app", "web"),
            true,
        ),
        (
            "question mark in a label key",
            profile("p").taking("shop", &[("app?", "web")]),
            pod_in("shop").label("app", "web"),
            false,
        ),
        (
            "any label whose key matches may carry the value",
            profile("p").taking("shop", &[("team-*", "blue")]),
            pod_in("shop").label("team-a", "red").label("team-b", "blue"),
            true,
        ),
        (
            "key and value must match on the same label",
            profile("p").taking("shop", &[("team-*", "blue")]),
            pod_in("shop").label("team-a", "red").label("other", "blue"),
            false,
        ),
        (
            "wildcards everywhere at once",
            profile("p").taking("*-eu-?", &[("*", "*"), ("a?c", "*z")]),
            pod_in("prod-eu-1").label("abc", "xyz"),
            true,
        ),
    ];
    for (fact, profile, pod, taken) in rows {
        assert_eq!(taker(&[profile], pod).is_some(), taken, "{fact}");
    }
}

#[test]
fn the_alphanumerically_first_of_several_matching_profiles_wins() {
    let same = |name| profile(name).taking("shop", &[]);
    assert_eq!(taker(&[same("c"), same("a"), same("b")], pod_in("shop")).as_deref(), Some("a"));
    assert_eq!(
        taker(&[same("p9"), same("p10")], pod_in("shop")).as_deref(),
        Some("p10"),
        "by characters, not by number"
    );
    assert_eq!(taker(&[same("b"), profile("a").taking("bank", &[])], pod_in("shop")).as_deref(), Some("b"));
}

#[test]
fn several_profiles_may_have_the_same_selectors() {
    let same = |name| profile(name).taking("shop", &[]);
    assert_eq!(taker(&[same("a"), same("b")], pod_in("shop").choosing("b")).as_deref(), Some("b"));
}

#[test]
fn the_profile_label_chooses_but_the_pod_must_still_match() {
    let profiles =
        [profile("a").taking("shop", &[]), profile("b").taking("shop", &[]), profile("c").taking("bank", &[])];
    let rows = [
        ("the chosen profile comes before the first by name", "b", Some("b")),
        ("a chosen profile that does not match takes nothing, and no other does", "c", None),
        ("an unknown profile takes nothing, and no other does", "z", None),
        ("an empty label chooses nothing", "", Some("a")),
    ];
    for (fact, chosen, expected) in rows {
        assert_eq!(taker(&profiles, pod_in("shop").choosing(chosen)).as_deref(), expected, "{fact}");
    }
}

#[test]
fn a_pod_owned_by_a_daemonset_is_not_captured() {
    let profiles = [profile("system").taking("kube-system", &[])];
    let rows = [
        ("a DaemonSet's pod", "apps/v1", "DaemonSet", None),
        ("the pod of a DaemonSet of another API group", "apps.example.com/v1", "DaemonSet", None),
        ("a Deployment's pod", "apps/v1", "ReplicaSet", Some("system")),
        ("a StatefulSet's pod", "apps/v1", "StatefulSet", Some("system")),
        ("a Job's pod", "batch/v1", "Job", Some("system")),
        ("a static pod's mirror", "v1", "Node", Some("system")),
    ];
    for (fact, api_version, kind, expected) in rows {
        let pod = pod_in("kube-system").owned_by(api_version, kind);
        assert_eq!(taker(&profiles, pod).as_deref(), expected, "{fact}");
    }
}

#[test]
fn the_compute_type_annotation_ec2_keeps_a_pod_off() {
    let profiles = [profile("p").taking("shop", &[])];
    for (value, expected) in [("ec2", None), ("fargate", Some("p")), ("EC2", Some("p"))] {
        let pod = pod_in("shop").annotation("eks.amazonaws.com/compute-type", value);
        assert_eq!(taker(&profiles, pod).as_deref(), expected, "{value}");
    }
    let labelled = pod_in("shop").label("eks.amazonaws.com/compute-type", "ec2");
    assert_eq!(taker(&profiles, labelled).as_deref(), Some("p"), "it is an annotation, not a label");
}

#[test]
fn the_default_profile_of_eksctl_takes_coredns_once_its_annotation_says_fargate() {
    let profiles = [profile("fp-default").taking("default", &[]).taking("kube-system", &[])];
    let coredns = || pod_in("kube-system").label("k8s-app", "kube-dns").owned_by("apps/v1", "ReplicaSet");
    for (value, expected) in [("ec2", None), ("fargate", Some("fp-default"))] {
        let pod = coredns().annotation("eks.amazonaws.com/compute-type", value);
        assert_eq!(taker(&profiles, pod).as_deref(), expected, "{value}");
    }
}

#[test]
fn node_affinity_tolerations_and_scheduler_name_play_no_part() {
    let profiles = compile(&[profile("p").taking("shop", &[])]);
    let off_fargate = json!({ "key": "eks.amazonaws.com/compute-type", "operator": "NotIn", "values": ["fargate"] });
    let terms = json!({ "nodeSelectorTerms": [{ "matchExpressions": [off_fargate] }] });
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": {
            "schedulerName": "another",
            "tolerations": [{ "operator": "Exists" }],
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } },
            "containers": [],
        },
    }))
    .unwrap();
    assert_eq!(profiles.taker(&pod), Some(&ProfileName::new("p")));
}

#[test]
fn a_pod_that_names_the_scheduler_itself_but_matches_nothing_is_not_taken() {
    let profiles = compile(&[profile("p").taking("shop", &[])]);
    let mut pod = pod_in("bank").build();
    pod.spec.get_or_insert_default().scheduler_name = Some("fargate-scheduler".to_owned());
    assert_eq!(profiles.taker(&pod), None);
}

#[test]
fn a_pod_without_namespace_is_created_in_default() {
    let mut pod = pod_in("").build();
    pod.metadata.namespace = None;
    let profiles = compile(&[profile("fp-default").taking("default", &[])]);
    assert_eq!(profiles.taker(&pod), Some(&ProfileName::new("fp-default")));
}

#[test]
fn only_active_profiles_match() {
    use ProfilePhase::{Active, CreateFailed, Creating, DeleteFailed, Deleting};
    let shop = || profile("p").taking("shop", &[]);
    for (phase, expected) in [
        (Some(Active), Some("p")),
        (Some(Creating), None),
        (Some(Deleting), None),
        (Some(CreateFailed), None),
        (Some(DeleteFailed), None),
        (None, None),
    ] {
        assert_eq!(taker(&[shop().in_phase(phase)], pod_in("shop")).as_deref(), expected, "{phase:?}");
    }
    assert_eq!(taker(&[shop().being_deleted()], pod_in("shop")), None, "a deletion counts before the status says so");
    let other = profile("q").taking("shop", &[]);
    let waiting = shop().in_phase(Some(Creating));
    assert_eq!(taker(&[waiting, other], pod_in("shop")).as_deref(), Some("q"), "the next by name takes the pod");
}

#[test]
fn a_profile_without_phase_is_active_only_when_the_caller_says_so() {
    let mut without = profile("p").taking("shop", &[]).0;
    for status in [None, Some(FargateProfileStatus::default())] {
        without.status = status;
        for (rule, expected) in [(WithoutPhase::Active, true), (WithoutPhase::Pending, false)] {
            let profiles = Profiles::compile([&without], rule).unwrap();
            assert_eq!(profiles.taker(&pod_in("shop").build()).is_some(), expected, "{rule:?}");
        }
    }
}

#[test]
fn profiles_without_a_name_or_with_the_same_name_are_refused() {
    let compile = |profiles: &[FargateProfile]| Profiles::compile(profiles, WithoutPhase::Active).map(|_| ());
    let unnamed = FargateProfile::default();
    let named = profile("p").0;
    assert_eq!(compile(&[named.clone(), unnamed]), Err(CompileError::Unnamed { number: 2 }));
    assert_eq!(compile(&[named.clone(), named]), Err(CompileError::Duplicate { name: ProfileName::new("p") }));
    assert_eq!(CompileError::Unnamed { number: 2 }.reason(), "ProfileUnnamed");
}

#[test]
fn every_profile_says_in_one_line_what_matched_or_the_first_thing_that_did_not() {
    let pod = || pod_in("shop").label("app", "api").label("tier", "front");
    let rows: [(ProfileBuilder, PodBuilder, &str); 13] = [
        (profile("p").taking("bank", &[]).taking("shop", &[]), pod(), "selector 2 matches"),
        (profile("p").taking("prod-*", &[]), pod(), "selector 1: namespace `shop` does not match `prod-*`"),
        (profile("p").taking("shop", &[("team", "a")]), pod(), "selector 1: no label of the Pod matches `team: a`"),
        (
            profile("p").taking("shop", &[("app", "web-*")]),
            pod(),
            "selector 1: label `app: api` does not match `app: web-*`",
        ),
        (
            profile("p").taking("shop", &[("app", "web"), ("team", "a")]),
            pod(),
            "selector 1: label `app: api` does not match `app: web`",
        ),
        (
            profile("p").taking("bank", &[]).taking("shop", &[("team", "a")]),
            pod(),
            "selector 2: no label of the Pod matches `team: a`",
        ),
        (
            profile("p").taking("shop", &[("team", "a")]).taking("shop", &[("app", "api"), ("tier", "back")]),
            pod(),
            "selector 2: label `tier: front` does not match `tier: back`",
        ),
        (
            profile("p").taking("bank", &[]).taking("mall", &[]),
            pod(),
            "selector 1: namespace `shop` does not match `bank`",
        ),
        (profile("p"), pod(), "it has no selectors"),
        (
            profile("p").taking("shop", &[]).in_phase(Some(ProfilePhase::CreateFailed)),
            pod(),
            "selector 1 matches, but the profile is CREATE_FAILED, not ACTIVE",
        ),
        (
            profile("p").taking("shop", &[]).in_phase(None),
            pod(),
            "selector 1 matches, but the profile is new, not ACTIVE",
        ),
        (profile("p").taking("shop", &[]), pod().choosing("q"), "the Pod's label names profile `q`"),
        (
            profile("p").taking("shop", &[("app", "web")]),
            pod_in("shop").label("app", "two\nlines `x`"),
            "selector 1: label `app: two\\nlines \\`x\\`` does not match `app: web`",
        ),
    ];
    for (profile, pod, expected) in rows {
        let (profiles, pod) = (compile(&[profile]), pod.build());
        assert_eq!(profiles.choose(&pod).profiles[0].to_string(), format!("profile `p`: {expected}"));
    }
}

#[test]
fn the_choice_says_in_one_line_who_takes_the_pod_or_why_nobody_does() {
    let a = || profile("a").taking("shop", &[]);
    let b = || profile("b").taking("bank", &[]);
    let waiting = || a().in_phase(Some(ProfilePhase::Creating));
    let rows: [(&[ProfileBuilder], PodBuilder, &str, &str); 10] = [
        (&[a(), b()], pod_in("shop"), "ProfileMatched", "profile `a` takes the Pod: selector 1 matches"),
        (&[], pod_in("shop"), "NoProfileMatches", "no profile takes the Pod: there are no profiles"),
        (&[a(), b()], pod_in("mall"), "NoProfileMatches", "no profile takes the Pod: none of 2 profiles matches"),
        (
            &[b()],
            pod_in("shop"),
            "NoProfileMatches",
            "no profile takes the Pod: profile `b`: selector 1: namespace `shop` does not match `bank`",
        ),
        (
            &[a(), b()],
            pod_in("shop").choosing("b"),
            "ChosenProfileDoesNotMatch",
            "no profile takes the Pod: profile `b`: selector 1: namespace `shop` does not match `bank`",
        ),
        (
            &[waiting(), b()],
            pod_in("shop"),
            "ProfileNotActive",
            "no profile takes the Pod: profile `a`: selector 1 matches, but the profile is CREATING, not ACTIVE",
        ),
        (
            &[waiting(), b()],
            pod_in("shop").choosing("a"),
            "ProfileNotActive",
            "no profile takes the Pod: profile `a`: selector 1 matches, but the profile is CREATING, not ACTIVE",
        ),
        (
            &[a()],
            pod_in("shop").choosing("z"),
            "UnknownProfile",
            "no profile takes the Pod: its label `eks.amazonaws.com/fargate-profile: z` names a profile that does not \
             exist",
        ),
        (
            &[a()],
            pod_in("shop").owned_by("apps/v1", "DaemonSet"),
            "OwnedByDaemonSet",
            "no profile takes the Pod: it is owned by DaemonSet `owner`, whose Pods run on ordinary nodes",
        ),
        (
            &[a()],
            pod_in("shop").owned_by("apps/v1", "DaemonSet").annotation("eks.amazonaws.com/compute-type", "ec2"),
            "OwnedByDaemonSet",
            "no profile takes the Pod: it is owned by DaemonSet `owner`, whose Pods run on ordinary nodes; \
             its annotation `eks.amazonaws.com/compute-type: ec2` keeps it out",
        ),
    ];
    for (profiles, pod, reason, text) in rows {
        let (profiles, pod) = (compile(profiles), pod.build());
        let choice = profiles.choose(&pod);
        assert_eq!((choice.reason(), choice.to_string().as_str()), (reason, text));
    }
}

#[test]
fn a_matching_profile_behind_the_first_says_which_comes_before_it() {
    let profiles = compile(&[profile("b").taking("shop", &[]), profile("a").taking("shop", &[])]);
    let pod = pod_in("shop").build();
    let lines: Vec<_> = profiles.choose(&pod).profiles.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        ["profile `a`: selector 1 matches", "profile `b`: selector 1 matches, but profile `a` comes first by name"]
    );
}
