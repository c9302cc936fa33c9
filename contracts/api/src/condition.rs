//! Conditions of our objects, as Kubernetes' API conventions want them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What there is to say under a type of condition.
#[derive(Clone, Copy, Debug)]
pub struct Verdict<'a> {
    /// The type, such as `Ready`.
    pub kind: &'a str,
    /// `None` when it is not known.
    pub is_true: Option<bool>,
    /// One word for programs.
    pub reason: &'a str,
    /// A sentence for people.
    pub message: &'a str,
}

impl Verdict<'_> {
    /// The condition, after those that an object had before. Its time stays while its status does.
    pub fn after(self, before: &[Condition], observed_generation: Option<i64>, now: Time) -> Condition {
        let status = match self.is_true {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let same = before.iter().find(|one| one.type_ == self.kind && one.status == status);
        Condition {
            type_: self.kind.to_owned(),
            status: status.to_owned(),
            reason: self.reason.to_owned(),
            message: self.message.to_owned(),
            last_transition_time: same.map_or(now, |same| same.last_transition_time.clone()),
            observed_generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::Verdict;

    fn time(text: &str) -> Time {
        serde_json::from_value(json!(text)).unwrap()
    }

    #[test]
    fn a_condition_keeps_its_time_while_it_keeps_its_status() {
        let (early, late) = (time("2026-11-01T00:00:00Z"), time("2026-11-02T00:00:00Z"));
        let verdict = Verdict { kind: "Ready", is_true: Some(true), reason: "A", message: "a" };
        let first = verdict.after(&[], Some(1), early.clone());
        let same = Verdict { reason: "B", ..verdict }.after(std::slice::from_ref(&first), Some(2), late.clone());
        assert_eq!((&*same.reason, same.observed_generation, &same.last_transition_time), ("B", Some(2), &early));
        let other = Verdict { is_true: None, ..verdict }.after(&[first], Some(2), late.clone());
        assert_eq!((&*other.status, other.last_transition_time), ("Unknown", late));
    }
}
