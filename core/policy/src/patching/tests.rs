//! The documented facts of patching, then promises that must hold over any history.

mod facts;
mod histories;

use std::num::NonZeroUsize;

use jiff::{SignedDuration, Timestamp};
use monopod_types::{PodUid, ProfileName, Zone};

use super::*;

const HOUR: i64 = 3600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn version(text: &str) -> GuestVersion {
    text.parse().unwrap()
}

fn pods(number: usize) -> Limit {
    Limit::Pods(NonZeroUsize::new(number).unwrap())
}

/// A routine rollout of guest 2.0.0, announced at zero, that may take everything at once.
fn rollout() -> Rollout {
    Rollout {
        guest: version("2.0.0"),
        announced_at: at(0),
        deadlines: Urgency::Routine.deadlines(),
        budget: Budget { per_profile: pods(1000), per_zone: pods(1000) },
    }
}

/// A Pod of profile `web` that was created an hour before the notice, on guest 1.0.0.
fn pod(name: &str, zone: &str) -> RunningPod {
    RunningPod {
        uid: PodUid::from(name),
        namespace: "default".to_owned(),
        name: name.to_owned(),
        profile: ProfileName::from("web"),
        zone: Zone::from(zone),
        created: at(-HOUR),
        guest: version("1.0.0"),
        terminating: false,
        record: Record::Untold,
    }
}
