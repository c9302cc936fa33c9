//! Whether whoever holds a Lease still renews it.
//!
//! Counted by our own clock from when a renewal was first seen, as client-go does: clocks of machines differ and are moved,
//! so the time that a Lease names says only whether it is another renewal than the last one.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::Instant;

/// The last renewal that was seen of each Lease, and when.
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    seen: HashMap<String, Renewal>,
}

#[derive(Debug)]
struct Renewal {
    holder: Option<String>,
    at: Option<MicroTime>,
    first_seen: Instant,
}

impl Renewals {
    /// Looks at a Lease; whether its holder has been silent for as long as the Lease lasts.
    pub(crate) fn is_overdue(&mut self, name: &str, lease: &LeaseSpec, now: Instant) -> bool {
        let seconds = u64::try_from(lease.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
        let is_same = |seen: &&Renewal| seen.holder == lease.holder_identity && seen.at == lease.renew_time;
        if let Some(seen) = self.seen.get(name).filter(is_same) {
            return now.duration_since(seen.first_seen) > Duration::from_secs(seconds);
        }
        let renewal = Renewal { holder: lease.holder_identity.clone(), at: lease.renew_time.clone(), first_seen: now };
        self.seen.insert(name.to_owned(), renewal);
        // One that was never renewed needs no patience.
        lease.renew_time.is_none()
    }

    /// Forgets all Leases but these.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.seen.retain(|name, _| is_there(name));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
    use tokio::time::Instant;

    use super::Renewals;

    fn lease(clock_is_ahead: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some("one".to_owned()),
            lease_duration_seconds: Some(40),
            renew_time: Some(MicroTime(Timestamp::now() + SignedDuration::from_secs(clock_is_ahead))),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_seen_whatever_the_holders_clock_says() {
        for ahead in [-86_400, 0, 86_400] {
            let (mut renewals, now, lease) = (Renewals::default(), Instant::now(), lease(ahead));
            let after = |seconds| now + Duration::from_secs(seconds);
            assert!(!renewals.is_overdue("a", &lease, now));
            assert!(!renewals.is_overdue("a", &lease, after(40)));
            assert!(renewals.is_overdue("a", &lease, after(41)));
            let mut renewed = lease.clone();
            renewed.renew_time = Some(MicroTime(Timestamp::now() + SignedDuration::from_secs(ahead + 1)));
            assert!(!renewals.is_overdue("a", &renewed, after(41)), "it was renewed");
            assert!(renewals.is_overdue("a", &renewed, after(82)));
        }
    }

    #[test]
    fn each_lease_counts_for_itself_and_another_holder_anew() {
        let (mut renewals, now) = (Renewals::default(), Instant::now());
        let (mut lease, later) = (lease(0), now + Duration::from_secs(60));
        assert!(!renewals.is_overdue("a", &lease, now));
        assert!(!renewals.is_overdue("b", &lease, later));
        lease.holder_identity = Some("two".to_owned());
        assert!(!renewals.is_overdue("a", &lease, later));
        assert!(renewals.is_overdue("never renewed", &LeaseSpec::default(), now));
        renewals.retain(|name| name == "b");
        assert_eq!(renewals.seen.len(), 1);
    }
}
