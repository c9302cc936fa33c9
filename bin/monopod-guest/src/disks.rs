//! Finds disks by the serial that the host gave them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// How long a disk may take from being plugged in to having a device node.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(5);
/// When a disk that was plugged in must have been announced. A scan asks every possible address, which takes its time.
const ANNOUNCED: Duration = Duration::from_secs(1);

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The host named a disk that it has not plugged in.
    #[error("found no disk with serial {serial:?} within {} s", PATIENCE.as_secs())]
    NotFound {
        /// As asked for.
        serial: String,
    },
    /// The kernel would not say what there is.
    #[error("failed to list block devices")]
    List(#[source] std::io::Error),
}

/// The device node of the disk with that serial (or SCSI device id); waits for one that is just being plugged in.
///
/// # Errors
/// When it does not appear in time.
pub async fn find_disk(serial: &str) -> Result<PathBuf, DiskError> {
    let start = Instant::now();
    let mut scanned = false;
    loop {
        if let Some(name) = look(Path::new("/sys/block"), serial).map_err(DiskError::List)? {
            let node = Path::new("/dev").join(name);
            if node.exists() {
                return Ok(node);
            }
        }
        if !scanned && start.elapsed() > ANNOUNCED {
            scanned = true;
            // On a thread of its own; what it finds, the next looks see.
            tokio::task::spawn_blocking(|| rescan(Path::new("/sys/class/scsi_host")));
        }
        if start.elapsed() > PATIENCE {
            return Err(DiskError::NotFound { serial: serial.to_owned() });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Tells every SCSI host to look for disks: one whose announcement was lost is found by that only.
fn rescan(hosts: &Path) {
    let Ok(entries) = std::fs::read_dir(hosts) else { return };
    for host in entries.flatten() {
        if let Err(error) = std::fs::write(host.path().join("scan"), "- - -") {
            tracing::warn!(%error, host = ?host.file_name(), "failed to rescan a SCSI host");
        }
    }
}

/// Name of the block device with that serial, below a folder like /sys/block.
fn look(blocks: &Path, serial: &str) -> std::io::Result<Option<String>> {
    for entry in std::fs::read_dir(blocks)? {
        let folder = entry?.path();
        let read = |name: &str| std::fs::read(folder.join(name)).ok();
        let found = read("device/vpd_pg80").is_some_and(|page| unit_serial(&page) == Some(serial.as_bytes()))
            || read("device/vpd_pg83").is_some_and(|page| designators(&page).any(|name| name == serial.as_bytes()))
            || read("serial").is_some_and(|text| text.trim_ascii() == serial.as_bytes());
        if found {
            return Ok(folder.file_name().and_then(|name| name.to_str()).map(str::to_owned));
        }
    }
    Ok(None)
}

/// The serial in a SCSI unit serial number page: four bytes of header, then text.
fn unit_serial(page: &[u8]) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    Some(page.get(4..4 + length)?.trim_ascii())
}

/// The names in a SCSI device identification page: four bytes of header, then designators of four bytes and a text each.
fn designators(page: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = page.get(4..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(*rest.get(3)?);
        let name = rest.get(4..4 + length)?;
        rest = rest.get(4 + length..)?;
        Some(name.trim_ascii())
    })
}

#[cfg(test)]
mod tests;
