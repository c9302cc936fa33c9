//! The reaper takes every child of its process, so these tests deliver ends by hand.

use nix::unistd::Pid;

use super::{Ended, Reaper, UNCLAIMED};

#[tokio::test]
async fn an_end_is_told_to_all_who_asked_before() {
    let reaper = Reaper::default();
    let (first, second) = (reaper.watch(Pid::from_raw(7)), reaper.watch(Pid::from_raw(7)));
    reaper.deliver(Pid::from_raw(7), Ended::Exited(3));
    assert_eq!((first.await, second.await), (Ended::Exited(3), Ended::Exited(3)));
}

#[tokio::test]
async fn an_end_waits_for_who_asks_late() {
    let reaper = Reaper::default();
    reaper.deliver(Pid::from_raw(7), Ended::Killed(9));
    assert_eq!(reaper.watch(Pid::from_raw(7)).await.code(), 137);
}

#[test]
fn ends_that_nobody_asks_for_do_not_pile_up() {
    let reaper = Reaper::default();
    for pid in 1..=5000 {
        reaper.deliver(Pid::from_raw(pid), Ended::Exited(0));
    }
    assert_eq!(reaper.lock().unclaimed.len(), UNCLAIMED);
}
