//! A table of the turns that matter, and what holds whatever happens.

use proptest::prelude::*;

use super::{Action, End, Event, KILL_AGAIN_AFTER, Millis, VmState};

const DEADLINE: Millis = Millis(100);

fn ending(end: End, now: u64) -> VmState {
    VmState::Ending { end, again: Millis(now + KILL_AGAIN_AFTER) }
}

#[test]
fn each_turn_is_the_documented_one() {
    let starting = VmState::starting(DEADLINE);
    let table = [
        (starting, Event::StartSucceeded, 5, VmState::Running, vec![Action::TellStarted]),
        (starting, Event::StartFailed, 5, ending(End::StartFailed, 5), vec![Action::Kill]),
        (starting, Event::KillAsked, 5, ending(End::Asked, 5), vec![Action::AbandonStart, Action::Kill]),
        (starting, Event::Tick, 99, starting, vec![]),
        (starting, Event::Tick, 100, ending(End::StartTimedOut, 100), vec![Action::AbandonStart, Action::Kill]),
        (VmState::Running, Event::KillAsked, 7, ending(End::Asked, 7), vec![Action::Kill]),
        (VmState::Running, Event::Exited, 7, VmState::Releasing { end: End::ByItself }, vec![Action::Release]),
        (ending(End::Asked, 0), Event::Exited, 9, VmState::Releasing { end: End::Asked }, vec![Action::Release]),
        (
            ending(End::Asked, 0),
            Event::Tick,
            KILL_AGAIN_AFTER,
            ending(End::Asked, KILL_AGAIN_AFTER),
            vec![Action::Kill],
        ),
        (
            VmState::Releasing { end: End::ByItself },
            Event::Released,
            9,
            VmState::Gone { end: End::ByItself },
            vec![Action::TellGone(End::ByItself)],
        ),
    ];
    for (state, event, now, next, actions) in table {
        assert_eq!(state.step(event, Millis(now)), (next, actions), "{state:?} and {event:?}");
    }
}

#[test]
fn stop_during_the_start_abandons_it() {
    let (state, actions) = VmState::starting(DEADLINE).step(Event::KillAsked, Millis(1));
    assert_eq!(actions, [Action::AbandonStart, Action::Kill]);
    let (state, actions) = state.step(Event::StartSucceeded, Millis(2));
    assert_eq!((state, actions), (ending(End::Asked, 1), vec![]), "a start that ends late changes nothing");
}

fn events() -> impl Strategy<Value = Vec<(Event, u64)>> {
    let event = prop_oneof![
        Just(Event::StartSucceeded),
        Just(Event::StartFailed),
        Just(Event::KillAsked),
        Just(Event::Exited),
        Just(Event::Released),
        Just(Event::Tick),
    ];
    prop::collection::vec((event, 0..3_000_u64), 0..40)
}

fn first_states() -> impl Strategy<Value = VmState> {
    prop_oneof![Just(VmState::starting(DEADLINE)), Just(VmState::adopted())]
}

/// All that was done over a script of events, and the state at its end.
fn run(mut state: VmState, script: &[(Event, u64)]) -> (VmState, Vec<Action>) {
    let (mut now, mut done) = (Millis(0), Vec::new());
    for (event, later) in script {
        now = now.plus(*later);
        let (next, actions) = state.step(*event, now);
        done.extend(actions);
        state = next;
    }
    (state, done)
}

fn count(actions: &[Action], wanted: impl Fn(&Action) -> bool) -> usize {
    actions.iter().filter(|action| wanted(action)).count()
}

proptest! {
    #[test]
    fn resources_are_released_at_most_once_and_exactly_once_when_gone(first in first_states(), script in events()) {
        let (state, done) = run(first, &script);
        let released = count(&done, |action| *action == Action::Release);
        let told = count(&done, |action| matches!(action, Action::TellGone(_)));
        let gone = matches!(state, VmState::Gone { .. });
        prop_assert!(released <= 1);
        prop_assert_eq!(told, usize::from(gone));
        prop_assert!(!gone || released == 1);
    }

    #[test]
    fn a_kill_leads_to_gone_once_the_process_ends(first in first_states(), script in events()) {
        let (state, _) = run(first, &script);
        let (state, _) = run(state, &[(Event::KillAsked, 0), (Event::Exited, 0), (Event::Released, 0)]);
        let gone = matches!(state, VmState::Gone { .. });
        prop_assert!(gone, "{:?}", state);
    }

    #[test]
    fn nothing_is_killed_or_told_as_started_after_the_release(first in first_states(), script in events()) {
        let (_, done) = run(first, &script);
        let after = done.iter().skip_while(|action| **action != Action::Release);
        let wrong = after.filter(|action| matches!(action, Action::Kill | Action::TellStarted)).count();
        prop_assert_eq!(wrong, 0);
    }

    #[test]
    fn a_start_is_told_of_at_most_once_and_never_after_a_kill(first in first_states(), script in events()) {
        let (_, done) = run(first, &script);
        prop_assert!(count(&done, |action| *action == Action::TellStarted) <= 1);
        let after = done.iter().skip_while(|action| **action != Action::Kill);
        prop_assert_eq!(after.filter(|action| **action == Action::TellStarted).count(), 0);
    }

    #[test]
    fn a_start_without_news_ends_at_its_deadline(ticks in prop::collection::vec(0..60_u64, 1..20)) {
        let script: Vec<_> = ticks.iter().map(|later| (Event::Tick, *later)).collect();
        let (state, _) = run(VmState::starting(DEADLINE), &script);
        let over = ticks.iter().sum::<u64>() >= DEADLINE.0;
        let ending = matches!(state, VmState::Ending { end: End::StartTimedOut, .. });
        prop_assert_eq!(ending, over);
    }

    #[test]
    fn the_reason_of_an_end_stays_what_it_was(first in first_states(), script in events()) {
        let (state, _) = run(first, &script);
        let end = |state| match state {
            VmState::Ending { end, .. } | VmState::Releasing { end } | VmState::Gone { end } => Some(end),
            VmState::Starting { .. } | VmState::Running => None,
        };
        if let Some(before) = end(state) {
            let (later, _) = run(state, &script);
            prop_assert_eq!(end(later), Some(before));
        }
    }
}
