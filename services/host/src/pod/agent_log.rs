//! What a guest agent has to say goes into the daemon's own log.

use std::sync::Arc;
use std::time::Duration;

use super::Sandbox;
use super::work::Work;

/// Between attempts to listen.
const PAUSE: Duration = Duration::from_secs(5);

/// Listens for as long as the microVM runs. The words are a guest's: they are quoted, at a level that no alarm hangs on.
pub(super) async fn watch(work: Work, sandbox: Arc<Sandbox>) {
    let listening = async {
        loop {
            if let Ok(mut entries) = sandbox.agent.watch_agent_log().await {
                while let Ok(Some(entry)) = entries.next().await {
                    let (pod, message) = (&work.shared.name, &entry.message);
                    match entry.level.as_str() {
                        "ERROR" | "WARN" => tracing::info!(%pod, level = entry.level, ?message, "guest agent"),
                        _ => tracing::debug!(%pod, level = entry.level, ?message, "guest agent"),
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let _: Option<()> = sandbox.gone.run_until_cancelled(listening).await;
}
