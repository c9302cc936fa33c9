//! Any bytes as a manifest: it is read or refused, and whatever was read is decided by its own profiles and by one
//! that takes everything, with answers that agree with each other.

#![no_main]

use libfuzzer_sys::fuzz_target;
use monopod_api::{FargateProfile, FargateProfileSpec, Selector, Sizing};
use monopod_manifests::{Objects, Purpose, Source, parse};
use monopod_policy::admission::Storage;
use monopod_policy::decision::{Decision, Outcome, Snapshot, decide};
use monopod_policy::mutation::{self, IdentitySettings};
use monopod_policy::profile::{Profiles, WithoutPhase};
use monopod_policy::sizing::{DEFAULT_EPHEMERAL_STORAGE, FARGATE_OVERHEAD, MAX_EPHEMERAL_STORAGE, Size};

use k8s_openapi::api::core::v1::Pod;
use monopod_types::ProfileName;

fuzz_target!(|bytes: &[u8]| {
    let Ok(source) = Source::new("fuzz.yaml", bytes.to_vec()) else { return };
    match parse(&[source], Purpose::Decide) {
        Err(errors) => check_errors(&errors.to_string()),
        Ok(objects) => {
            let written: Vec<_> = objects.profiles.iter().map(|profile| profile.object.clone()).collect();
            decide_all(&objects, &written);
            for sizing in [Sizing::Fargate, Sizing::Exact] {
                decide_all(&objects, &[takes_everything(sizing)]);
            }
        }
    }
});

fn check_errors(errors: &str) {
    assert!(errors.starts_with("fuzz.yaml"), "{errors:?}");
    assert!(!errors.contains(|character: char| character.is_control() && character != '\n'), "{errors:?}");
}

fn takes_everything(sizing: Sizing) -> FargateProfile {
    let selectors = vec![Selector { namespace: "*".to_owned(), ..Selector::default() }];
    FargateProfile::new("all", FargateProfileSpec { selectors, sizing, ..FargateProfileSpec::default() })
}

fn decide_all(objects: &Objects, profiles: &[FargateProfile]) {
    let subnets: Vec<_> = objects.subnets.iter().map(|subnet| subnet.object.clone()).collect();
    let claims = objects.persistent_volume_claims.iter().map(|claim| &claim.object);
    let volumes = objects.persistent_volumes.iter().map(|volume| &volume.object);
    let snapshot = Snapshot::new(profiles, WithoutPhase::Active, &subnets).expect("the reader refuses such profiles");
    let snapshot = snapshot.with_storage(Storage::new(claims, volumes));
    let compiled = Profiles::compile(profiles, WithoutPhase::Active).expect("the snapshot took them, too");
    for workload in &objects.workloads {
        let pod = &workload.object.pod;
        let decision = decide(pod, &snapshot);
        assert_eq!(compiled.taker(pod), decision.choice.taker, "the webhook and the scheduler take the same Pods");
        check_decision(&decision);
        if let Some(taker) = decision.choice.taker {
            let changed = change(pod, taker, objects);
            let again = decide(&changed, &snapshot);
            assert_eq!(again.choice.taker, Some(taker), "a Pod stays with its profile");
            assert_eq!(again.verdict.is_supported(), decision.verdict.is_supported(), "{}", again.verdict.message());
            assert_eq!(again.size, decision.size, "no change makes a Pod larger");
        }
    }
}

fn check_decision(decision: &Decision<'_>) {
    let verdict = &decision.verdict;
    assert_eq!(verdict.is_supported(), verdict.violations().is_empty());
    assert_eq!(verdict.is_supported(), verdict.message().is_empty());
    for violation in verdict.violations() {
        assert!(!violation.field().is_empty() && !violation.message().is_empty(), "{violation:?}");
    }
    assert_eq!(decision.choice.to_string().lines().count(), 1, "a choice is one line");
    assert!(!decision.reason().is_empty() && !decision.message().is_empty());
    if let Ok(size) = &decision.size {
        check_size(size);
    }
    if decision.outcome() == Outcome::Runs {
        assert!(verdict.is_supported() && decision.size.is_ok() && decision.choice.taker.is_some());
    }
}

fn check_size(size: &Size) {
    assert!(size.asked.fits_in(size.shape) && size.asked.fits_in(size.exact));
    assert!((DEFAULT_EPHEMERAL_STORAGE..=MAX_EPHEMERAL_STORAGE).contains(&size.ephemeral));
    if let Some(table) = size.table {
        assert!(size.exact.fits_in(table), "the table is never smaller than the exact size");
        assert!(size.asked.memory + FARGATE_OVERHEAD <= table.memory);
    }
    if size.mode == Sizing::Fargate {
        assert_eq!(Some(size.shape), size.table);
    }
}

/// The Pod after the webhook, which finds nothing more to do when it is asked again.
fn change(pod: &Pod, profile: &ProfileName, objects: &Objects) -> Pod {
    let account = objects.service_accounts.first().map(|account| &account.object);
    let settings = IdentitySettings::default();
    let patch = mutation::plan(pod, profile, account, &settings);
    let changed = mutation::apply(pod, &patch).expect("the patch was planned for this Pod");
    let more = mutation::plan(&changed, profile, account, &settings);
    assert!(more.is_empty(), "{more}");
    changed
}
