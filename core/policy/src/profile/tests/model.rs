//! Matching against a model that tries everything and shares no code with the real thing.

use monopod_api::{ProfilePhase, Selector, names};
use proptest::prelude::*;

use super::super::Answer;
use super::{PodBuilder, ProfileBuilder, compile, pod_in, profile};

/// Every way to let the wildcards stand for text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return text.is_empty() };
    let behind = &pattern[first.len_utf8()..];
    let rests: Vec<&str> = text.char_indices().map(|(at, letter)| &text[at + letter.len_utf8()..]).collect();
    match first {
        '*' => fits(behind, text) || rests.iter().any(|rest| fits(behind, rest)),
        '?' => rests.first().is_some_and(|rest| fits(behind, rest)),
        _ => text.starts_with(first) && fits(behind, rests[0]),
    }
}

fn selects(selector: &Selector, pod: &PodBuilder) -> bool {
    let labels: Vec<_> = pod.0.labels.iter().flatten().collect();
    fits(&selector.namespace, pod.0.namespace.as_deref().unwrap())
        && selector
            .labels
            .iter()
            .all(|wanted| labels.iter().any(|(key, value)| fits(wanted.0, key) && fits(wanted.1, value)))
}

/// The smallest name among those that may take the Pod.
fn model(profiles: &[ProfileBuilder], pod: &PodBuilder) -> Option<String> {
    let meta = &pod.0;
    let daemon = meta.owner_references.iter().flatten().any(|owner| owner.kind == "DaemonSet");
    let ec2 = meta.annotations.iter().flatten().any(|(key, value)| key == names::COMPUTE_TYPE && value == "ec2");
    let chosen = meta.labels.iter().flatten().find(|(key, _)| *key == names::PROFILE_LABEL).map(|(_, value)| value);
    profiles
        .iter()
        .map(|profile| &profile.0)
        .filter(|_| !daemon && !ec2)
        .filter(|profile| {
            chosen.is_none_or(|chosen| chosen.is_empty() || profile.metadata.name.as_ref() == Some(chosen))
        })
        .filter(|profile| profile.status.as_ref().unwrap().phase == Some(ProfilePhase::Active))
        .filter(|profile| profile.spec.selectors.iter().any(|selector| selects(selector, pod)))
        .filter_map(|profile| profile.metadata.name.clone())
        .min()
}

prop_compose! {
    fn selectors()(
        namespace in "[st?*]{1,3}",
        labels in prop::collection::btree_map("[ab?*]{1,2}", "[xy?*]{1,2}", 0..3),
    ) -> Selector {
        Selector { namespace, labels }
    }
}

/// Against the order of names, so that the order in which profiles come cannot help.
fn profiles() -> impl Strategy<Value = Vec<ProfileBuilder>> {
    let phase = prop_oneof![
        4 => Just(Some(ProfilePhase::Active)),
        1 => Just(Some(ProfilePhase::Creating)),
        1 => Just(None),
    ];
    let body = (prop::collection::vec(selectors(), 0..4), phase).prop_map(|(selectors, phase)| {
        let mut unnamed = profile("").in_phase(phase);
        unnamed.0.spec.selectors = selectors;
        unnamed
    });
    prop::collection::btree_map("[a-c][0-9]?", body, 0..6).prop_map(|bodies| {
        let named = |(name, mut body): (String, ProfileBuilder)| {
            body.0.metadata.name = Some(name);
            body
        };
        bodies.into_iter().rev().map(named).collect()
    })
}

prop_compose! {
    fn pods()(
        namespace in "[st]{1,3}",
        labels in prop::collection::btree_map("[ab]{1,2}", "[xy]{1,2}", 0..4),
        chosen in prop::option::weighted(0.3, "[a-c]?[0-9]?"),
        opted_out in prop::bool::weighted(0.1),
        daemon in prop::bool::weighted(0.1),
    ) -> PodBuilder {
        let mut pod = labels.iter().fold(pod_in(&namespace), |pod, (key, value)| pod.label(key, value));
        if let Some(chosen) = chosen {
            pod = pod.choosing(&chosen);
        }
        if opted_out {
            pod = pod.annotation(names::COMPUTE_TYPE, "ec2");
        }
        if daemon {
            pod = pod.owned_by("apps/v1", "DaemonSet");
        }
        pod
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_taker_is_the_one_that_brute_force_finds(profiles in profiles(), pod in pods()) {
        let expected = model(&profiles, &pod);
        let compiled = compile(&profiles);
        prop_assert_eq!(compiled.taker(&pod.build()).map(ToString::to_string), expected);
    }

    #[test]
    fn the_quick_answer_and_the_explained_one_agree(profiles in profiles(), pod in pods()) {
        let (compiled, pod) = (compile(&profiles), pod.build());
        let choice = compiled.choose(&pod);
        prop_assert_eq!(compiled.taker(&pod), choice.taker);
        prop_assert_eq!(choice.taker.is_some(), choice.reason() == "ProfileMatched");
        prop_assert!(choice.taker.is_none() || choice.pod_reasons.is_empty());
        prop_assert_eq!(choice.profiles.len(), profiles.len());
        prop_assert_eq!(choice.to_string().lines().count(), 1);
    }

    /// The webhook may be asked again after it has written the label.
    #[test]
    fn a_pod_that_carries_the_label_of_its_taker_is_taken_by_the_same(profiles in profiles(), pod in pods()) {
        let compiled = compile(&profiles);
        if let Some(taker) = compiled.taker(&pod.clone().build()) {
            let labelled = pod.choosing(taker.as_str()).build();
            prop_assert_eq!(compiled.taker(&labelled), Some(taker));
        }
    }

    #[test]
    fn a_selector_that_is_said_to_match_does_and_all_before_it_do_not(profiles in profiles(), pod in pods()) {
        let compiled = compile(&profiles);
        let built = pod.clone().build();
        for answer in compiled.choose(&built).profiles {
            let name = Some(answer.profile.as_str());
            let profile = profiles.iter().find(|profile| profile.0.metadata.name.as_deref() == name).unwrap();
            let first = profile.0.spec.selectors.iter().position(|selector| selects(selector, &pod)).map(|at| at + 1);
            match answer.answer {
                Answer::Matches { selector }
                | Answer::Outranked { selector, .. }
                | Answer::NotActive { selector, .. } => {
                    prop_assert_eq!(Some(selector.0), first);
                }
                Answer::Mismatch { .. } | Answer::NoSelectors => prop_assert_eq!(first, None),
                Answer::OtherChosen { chosen } => prop_assert_ne!(chosen, answer.profile.as_str()),
            }
        }
    }
}
