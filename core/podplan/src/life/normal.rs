//! A status as the API keeps it: times in whole seconds, messages of bounded length. Two statuses that differ in nothing
//! else are the same, so that nobody is told twice.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What all termination messages of a Pod may take together.
const MESSAGE_BYTES: usize = 12 * 1024;

/// The status as the API keeps it.
pub(super) fn normalized(mut status: PodStatus) -> PodStatus {
    if let Some(time) = &mut status.start_time {
        truncate(time);
    }
    let conditions = status.conditions.iter_mut().flatten();
    conditions.filter_map(|condition| condition.last_transition_time.as_mut()).for_each(truncate);
    let mut lists =
        [&mut status.init_container_statuses, &mut status.container_statuses, &mut status.ephemeral_container_statuses];
    let containers: usize = lists.iter().filter_map(|list| list.as_ref()).map(Vec::len).sum();
    let share = MESSAGE_BYTES / containers.max(1);
    for container in lists.iter_mut().filter_map(|list| list.as_mut()).flatten() {
        let states = [container.state.as_mut(), container.last_state.as_mut()];
        states.into_iter().flatten().for_each(|state| normalize(state, share));
    }
    status
}

fn normalize(state: &mut ContainerState, message_bytes: usize) {
    if let Some(time) = state.running.as_mut().and_then(|running| running.started_at.as_mut()) {
        truncate(time);
    }
    let Some(end) = &mut state.terminated else { return };
    [end.started_at.as_mut(), end.finished_at.as_mut()].into_iter().flatten().for_each(truncate);
    if let Some(message) = &mut end.message {
        message.truncate(message.floor_char_boundary(message_bytes));
    }
}

fn truncate(time: &mut Time) {
    let whole = Timestamp::from_second(time.0.as_second());
    time.0 = whole.unwrap_or(time.0);
}
