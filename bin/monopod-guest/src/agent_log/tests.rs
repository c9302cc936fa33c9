//! Through a real subscriber, as the agent uses it.

use tokio_stream::StreamExt;
use tracing_subscriber::layer::SubscriberExt;

use super::{AgentLog, KEPT, LONGEST};

#[tokio::test]
async fn a_late_listener_gets_what_is_kept_and_then_what_is_new() {
    let log = AgentLog::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
    tracing::info!(disk = "a", "mounted");
    let mut entries = log.watch();
    tracing::warn!("second");
    let first = entries.next().await.unwrap().unwrap();
    assert_eq!((first.level.as_str(), first.message.as_str()), ("INFO", "mounted disk=\"a\""));
    assert_eq!(entries.next().await.unwrap().unwrap().message, "second");
}

#[tokio::test]
async fn a_slow_listener_is_told_that_it_missed_some() {
    let log = AgentLog::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
    let mut entries = log.watch();
    for number in 0..=KEPT {
        tracing::info!("{number}");
    }
    let first = entries.next().await.unwrap().unwrap().message;
    assert_eq!(first, "1 entries of the agent's log were lost here");
    assert_eq!(log.lock().kept.len(), KEPT);
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let entry = super::entry_of("INFO", "ä".repeat(LONGEST));
    assert_eq!(entry.message.len(), LONGEST);
}
