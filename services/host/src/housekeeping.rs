//! Takes away what nobody needs any more: images when the disk fills up, and logs of Pods that are gone.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use monopod_images::Images;
use tokio::time::MissedTickBehavior;

use crate::host::{Host, remove_folder};
use crate::journal::Journals;

/// Looks at once, then again after each period and whenever a pull has found the disk full, for as long as the daemon is
/// there.
pub(crate) async fn keep(host: Weak<Host>, period: Duration) {
    let Some(machine) = host.upgrade().map(|host| Arc::clone(&host.machine)) else { return };
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_full = tokio::select! {
            () = machine.room_wanted.notified() => true,
            _ = ticks.tick() => false,
        };
        let Some(host) = host.upgrade() else { return };
        if is_full {
            remove_unused_images(&host.images).await;
        } else {
            collect_images(&host.images).await;
            sweep_logs(&host.logs, &host.journals);
        }
    }
}

/// A disk that is full is pressure: all images that no Pod uses go, as with the kubelet.
async fn remove_unused_images(images: &Images) {
    match images.prune().await {
        Ok(collected) => {
            let (freed, removed) = (collected.freed, collected.removed.len());
            tracing::info!(freed, removed, "a pull has found the disk full; images that nobody uses were removed");
        }
        Err(error) => tracing::error!(error = &error as &dyn Error, "images cannot be removed"),
    }
}

/// A disk that is nearly full loses the images that were not used for the longest time.
async fn collect_images(images: &Images) {
    match images.collect_garbage().await {
        Ok(collected) if collected.wanted == 0 => {}
        Ok(collected) => {
            let (wanted, freed, removed) = (collected.wanted, collected.freed, collected.removed.len());
            tracing::info!(wanted, freed, removed, "the disk is nearly full; images that nobody uses were removed");
            if freed < wanted {
                tracing::warn!(
                    wanted,
                    freed,
                    "the disk stays nearly full: every image left is in use or was used a moment ago; make room on it"
                );
            }
        }
        Err(error) => tracing::error!(error = &error as &dyn Error, "images cannot be removed"),
    }
}

/// Logs go with their Pod; a daemon that was killed in between has left them.
fn sweep_logs(logs: &Path, journals: &Journals) {
    // In this order: a Pod has its journal before it has logs.
    let folders: Vec<_> = match std::fs::read_dir(logs) {
        Ok(entries) => entries.filter_map(Result::ok).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => return tracing::error!(error = &error as &dyn Error, "the folder of logs cannot be read"),
    };
    let known: BTreeSet<String> = match journals.uids() {
        Ok(uids) => uids.into_iter().collect(),
        Err(error) => return tracing::error!(error = &error as &dyn Error, "the folder of journals cannot be read"),
    };
    for folder in folders {
        let name = folder.file_name();
        // <namespace>_<name>_<uid>; none of them holds an underscore.
        let uid = name.to_str().and_then(|name| name.rsplit('_').next());
        if uid.is_some_and(|uid| !known.contains(uid)) {
            remove_folder(&folder.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sweep_logs;
    use crate::journal::Journals;

    #[test]
    fn logs_go_when_their_pod_has_no_journal() {
        let root = tempfile::tempdir().unwrap();
        let logs = root.path().join("logs");
        let journals = Journals::open(root.path().join("pods")).unwrap();
        for folder in ["logs/shop_web_u-1/app", "logs/shop_gone_u-2/app", "pods/u-1"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        sweep_logs(&logs, &journals);
        let left: Vec<_> = std::fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["shop_web_u-1"]);
    }

    #[test]
    fn without_logs_there_is_nothing_to_do() {
        let root = tempfile::tempdir().unwrap();
        sweep_logs(&root.path().join("logs"), &Journals::open(root.path().join("pods")).unwrap());
    }
}
