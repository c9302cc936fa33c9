//! How long the decision about one ordinary Pod takes against ten profiles of five selectors each, as a whole and in
//! its parts, beside the parsing of the same Pod, which an admission webhook pays in any case.

use divan::Bencher;
use k8s_openapi::api::core::v1::Pod;
use monopod_api::{FargateProfile, FargateProfileSpec, Selector, Sizing, Subnet, SubnetSpec};
use monopod_policy::admission::{self, Inputs, ProfileNodes, Storage};
use monopod_policy::decision::{Outcome, Snapshot, decide};
use monopod_policy::mutation::{self, IdentitySettings};
use monopod_policy::profile::{Profiles, WithoutPhase};
use monopod_policy::sizing::{self, SizingSettings};
use monopod_types::{ProfileName, Zone};

const PROFILES: usize = 10;
const SELECTORS: usize = 5;

/// As a Deployment's Pod reaches the webhook, without what the API server adds later.
const POD: &str = r#"{
  "apiVersion": "v1",
  "kind": "Pod",
  "metadata": {
    "generateName": "web-6d4cf56db6-",
    "namespace": "shop-eu-1",
    "labels": {
      "app.kubernetes.io/name": "web",
      "app.kubernetes.io/part-of": "shop",
      "pod-template-hash": "6d4cf56db6",
      "team": "storefront",
      "tier": "frontend"
    },
    "ownerReferences": [
      {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d4cf56db6", "uid": "7b2f", "controller": true}
    ]
  },
  "spec": {
    "serviceAccountName": "web",
    "nodeSelector": {"topology.kubernetes.io/zone": "a"},
    "securityContext": {"runAsNonRoot": true, "fsGroup": 2000},
    "containers": [
      {
        "name": "web",
        "image": "shop/web:1",
        "ports": [{"containerPort": 8080}],
        "env": [{"name": "LISTEN", "value": ":8080"}],
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/web"}, {"name": "cache", "mountPath": "/var/cache"}]
      },
      {
        "name": "proxy",
        "image": "shop/proxy:1",
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}},
        "volumeMounts": [{"name": "certificates", "mountPath": "/etc/certificates", "readOnly": true}]
      }
    ],
    "volumes": [
      {"name": "config", "configMap": {"name": "web"}},
      {"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}},
      {"name": "certificates", "secret": {"secretName": "web"}}
    ]
  }
}"#;

fn main() {
    divan::main();
}

fn pod() -> Pod {
    serde_json::from_str(POD).expect("the fixture is a Pod")
}

/// Only the last selector of the last profile matches, and every other one does until its last label.
fn profiles() -> Vec<FargateProfile> {
    let selector = |profile: usize, selector: usize| {
        let last = profile + 1 == PROFILES && selector + 1 == SELECTORS;
        let labels = [
            ("app.kubernetes.io/*", "w?b".to_owned()),
            ("te*", "store*".to_owned()),
            ("tier", if last { "*end".to_owned() } else { format!("*end-{profile}-{selector}") }),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value));
        Selector { namespace: "shop-*-?".to_owned(), labels: labels.into() }
    };
    let profile = |number| {
        let selectors = (0..SELECTORS).map(|place| selector(number, place)).collect();
        FargateProfile::new(
            &format!("profile-{number}"),
            FargateProfileSpec { selectors, ..FargateProfileSpec::default() },
        )
    };
    (0..PROFILES).map(profile).collect()
}

fn compiled() -> Profiles {
    Profiles::compile(&profiles(), WithoutPhase::Active).expect("the fixture's profiles have names of their own")
}

/// The whole decision: match, admit and size.
#[divan::bench]
fn decision(bencher: Bencher<'_, '_>) {
    let (pod, profiles) = (pod(), profiles());
    let subnets = [Subnet::new("private-a", SubnetSpec { zone: "a".to_owned(), ..SubnetSpec::default() })];
    let snapshot = Snapshot::new(&profiles, WithoutPhase::Active, &subnets).expect("the fixture's profiles are good");
    assert_eq!(decide(&pod, &snapshot).outcome(), Outcome::Runs, "an ordinary Pod meets no early end");
    bencher.bench_local(|| decide(divan::black_box(&pod), &snapshot));
}

/// The yardstick: reading the Pod from the JSON in which the API server sends it.
#[divan::bench]
fn yardstick_parse_pod(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| serde_json::from_str::<Pod>(divan::black_box(POD)).expect("the fixture is a Pod"));
}

/// What the webhook asks of every new Pod.
#[divan::bench]
fn part_taker(bencher: Bencher<'_, '_>) {
    let (pod, profiles) = (pod(), compiled());
    bencher.bench_local(|| profiles.taker(divan::black_box(&pod)));
}

/// The same with the reason of every profile.
#[divan::bench]
fn part_choose(bencher: Bencher<'_, '_>) {
    let (pod, profiles) = (pod(), compiled());
    bencher.bench_local(|| profiles.choose(divan::black_box(&pod)));
}

#[divan::bench]
fn part_verdict(bencher: Bencher<'_, '_>) {
    let (pod, storage, profile, zones) = (pod(), Storage::default(), ProfileName::from("shop"), [Zone::from("a")]);
    let nodes = ProfileNodes { profile: &profile, zones: &zones, region: None };
    let inputs = Inputs { storage: &storage, nodes: Some(&nodes) };
    bencher.bench_local(|| admission::verdict(divan::black_box(&pod), &inputs));
}

#[divan::bench(args = [Sizing::Fargate, Sizing::Exact])]
fn part_size(bencher: Bencher<'_, '_>, mode: Sizing) {
    let (pod, settings) = (pod(), SizingSettings::default());
    bencher.bench_local(|| sizing::size(divan::black_box(&pod), mode, &settings));
}

/// The webhook's patch; not part of the decision.
#[divan::bench]
fn patch(bencher: Bencher<'_, '_>) {
    let (pod, profile, settings) = (pod(), ProfileName::from("shop"), IdentitySettings::default());
    bencher.bench_local(|| mutation::plan(divan::black_box(&pod), &profile, None, &settings));
}
