//! What is written down of a VM before it is started, so that a later life of the daemon can take it back.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Name of the file in the VM's folder.
pub(crate) const FILE: &str = "record.json";

/// Most bytes of it that are read.
const MOST: u64 = 64 << 10;

/// What is known of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Record {
    /// Of this format.
    pub(crate) version: u32,
    /// The VM's name; none for one that becomes a template.
    pub(crate) id: Option<String>,
    /// Which start of the machine it belongs to.
    pub(crate) boot_id: String,
    /// Its process, once there is one.
    pub(crate) process: Option<ProcessRecord>,
    /// Whether its start is over, so that it can be adopted.
    pub(crate) started: bool,
    /// CPU time that it may use once it has got going, in thousandths of a CPU.
    #[serde(default)]
    pub(crate) cpu_cap: Option<u64>,
}

/// A process, told from a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ProcessRecord {
    /// Its number.
    pub(crate) pid: i32,
    /// When it was started, in clock ticks since the machine was.
    pub(crate) start_time: u64,
}

impl Record {
    /// Of a VM that has no process yet.
    pub(crate) fn new(id: Option<String>) -> Self {
        Self { version: 1, id, boot_id: boot_id(), process: None, started: false, cpu_cap: None }
    }

    /// Writes it to a VM's folder; a reader sees the old or the new one.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        let half = folder.join("record.json.new");
        let mut file = fs::File::create(&half)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(half, folder.join(FILE))
    }

    /// Reads that of a VM's folder; an unreadable one is none.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        let path = folder.join(FILE);
        if fs::metadata(&path).ok()?.len() > MOST {
            return None;
        }
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }
}

/// Tells one start of this machine from the next.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{ProcessRecord, Record};

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_torn_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(folder.path()), None);
        let mut record = Record::new(Some("web".to_owned()));
        record.process = Some(ProcessRecord { pid: 7, start_time: 99 });
        record.write(folder.path()).unwrap();
        assert_eq!(Record::read(folder.path()), Some(record));
        std::fs::write(folder.path().join(super::FILE), "{\"version\":1,\"id").unwrap();
        assert_eq!(Record::read(folder.path()), None);
    }
}
