//! What the daemon writes down about each Pod, so that its next life can go on where this one was killed.
//!
//! ```text
//! <root>/pods/<uid>/pod.json     the Pod, what it refers to, its size: written when it is admitted, and when one changes
//! <root>/pods/<uid>/state.json   how far it has come: written each time that this changes
//! ```
//!
//! Both are replaced whole, by renaming. They hold Secrets, so only their owner may read them. They are not flushed to
//! the disk: with the machine itself all of its microVMs have ended.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Journals of all Pods.
#[derive(Clone, Debug)]
pub(crate) struct Journals {
    folder: PathBuf,
}

/// The journal of one Pod.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
}

/// What does not change while a Pod runs, or only when people change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct PodRecord {
    /// With all defaults, as it was admitted.
    pub(crate) pod: Pod,
    /// The objects that it refers to.
    pub(crate) objects: Vec<serde_json::Value>,
    pub(crate) size: SizeRecord,
    pub(crate) published_ports: Vec<PortRecord>,
    /// The address that the scheduler of a cluster has decided; a Pod that has one belongs to a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<std::net::Ipv4Addr>,
    /// How names are resolved in place of the machine's own way, where its Subnet says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resolver: Option<ResolverRecord>,
    pub(crate) admitted_at: Timestamp,
}

/// Name resolution in a Subnet. What is empty is as on the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ResolverRecord {
    pub(crate) nameservers: Vec<String>,
    pub(crate) searches: Vec<String>,
}

/// What the microVM is sold as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct SizeRecord {
    pub(crate) milli_cpu: u64,
    #[serde(rename = "memoryMiB")]
    pub(crate) memory_mib: u64,
    #[serde(rename = "scratchGiB")]
    pub(crate) scratch_gib: u64,
}

/// A port of the machine that leads to the Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct PortRecord {
    pub(crate) host_address: std::net::IpAddr,
    pub(crate) host_port: u16,
    pub(crate) pod_port: u16,
}

/// How far a Pod has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct StateRecord {
    pub(crate) status: PodStatus,
    /// The instances that were asked for and not removed yet, by id.
    pub(crate) instances: BTreeMap<String, InstanceRecord>,
    /// The image of each container that had one.
    pub(crate) images: BTreeMap<String, ImageRecord>,
    /// Addresses of the Pod.
    pub(crate) addresses: Vec<std::net::IpAddr>,
    pub(crate) mac: Option<String>,
    pub(crate) boot_id: Option<String>,
    pub(crate) guest_kernel: Option<String>,
    /// The microVM was made this Pod's own.
    pub(crate) is_personal: bool,
    /// Somebody asked it to end.
    pub(crate) stop: Option<StopRecord>,
    /// It has ended, and nothing of it runs.
    pub(crate) finished: Option<FinishedRecord>,
    pub(crate) stages: Vec<StageRecord>,
}

/// One instance of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct InstanceRecord {
    pub(crate) container: String,
    pub(crate) attempt: u32,
    /// All of its output is in the log.
    pub(crate) log_complete: bool,
}

/// An image in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ImageRecord {
    pub(crate) reference: String,
    pub(crate) digest: String,
    pub(crate) id: String,
    pub(crate) serial: String,
    pub(crate) stop_signal: Option<String>,
}

/// A stop that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct StopRecord {
    pub(crate) asked_at: Timestamp,
    pub(crate) grace_seconds: Option<u64>,
}

/// How a Pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct FinishedRecord {
    pub(crate) exit_code: i32,
    pub(crate) finished_at: Timestamp,
}

/// A step of the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct StageRecord {
    pub(crate) name: String,
    pub(crate) nanoseconds: u64,
    pub(crate) since_start_nanoseconds: u64,
}

/// Why a journal could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk said no.
    #[error("failed to write {}", path.display())]
    Write {
        /// What was written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The disk said no.
    #[error("failed to read {}", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is not what this version writes.
    #[error("failed to understand {}", path.display())]
    Syntax {
        /// What was read.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

impl JournalError {
    /// Event reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Write { .. } => "JournalNotWritten",
            Self::Read { .. } => "JournalNotRead",
            Self::Syntax { .. } => "JournalNotUnderstood",
        }
    }
}

const POD: &str = "pod.json";
const STATE: &str = "state.json";

impl Journals {
    /// The journals below a folder, which is made when it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, JournalError> {
        make_private(&folder)?;
        Ok(Self { folder })
    }

    /// A journal for a Pod.
    pub(crate) fn of(&self, uid: &str) -> Journal {
        Journal { folder: self.folder.join(uid) }
    }

    /// UIDs of all Pods that have one, whether it can be read or not.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn uids(&self) -> Result<Vec<String>, JournalError> {
        let failed = |source| JournalError::Read { path: self.folder.clone(), source };
        let mut uids = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            uids.extend(entry.map_err(failed)?.file_name().into_string());
        }
        uids.sort();
        Ok(uids)
    }
}

impl Journal {
    pub(crate) fn write_pod(&self, record: &PodRecord) -> Result<(), JournalError> {
        make_private(&self.folder)?;
        replace(&self.folder.join(POD), record)
    }

    pub(crate) fn write_state(&self, record: &StateRecord) -> Result<(), JournalError> {
        replace(&self.folder.join(STATE), record)
    }

    /// What was written; a Pod that was killed before its first state has the empty one.
    pub(crate) fn read(&self) -> Result<(PodRecord, StateRecord), JournalError> {
        let pod = read(&self.folder.join(POD))?;
        let state = match read(&self.folder.join(STATE)) {
            Err(JournalError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                StateRecord::default()
            }
            read => read?,
        };
        Ok((pod, state))
    }

    /// Whether the Pod is remembered.
    pub(crate) fn exists(&self) -> bool {
        self.folder.is_dir()
    }

    /// Forgets the Pod.
    pub(crate) fn remove(&self) -> Result<(), JournalError> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(JournalError::Write { path: self.folder.clone(), source: error })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn make_private(folder: &Path) -> Result<(), JournalError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| JournalError::Write { path: folder.to_owned(), source })
}

fn replace(path: &Path, record: &impl Serialize) -> Result<(), JournalError> {
    let failed = |source| JournalError::Write { path: path.to_owned(), source };
    let text = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
    let new = path.with_extension("new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
    file.write_all(&text).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, JournalError> {
    let text = std::fs::read(path).map_err(|source| JournalError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| JournalError::Syntax { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{InstanceRecord, JournalError, Journals, PodRecord, SizeRecord, StateRecord};

    fn record() -> PodRecord {
        PodRecord {
            pod: serde_json::from_value(serde_json::json!({"metadata": {"name": "web"}, "spec": {"containers": []}}))
                .unwrap(),
            objects: vec![serde_json::json!({"kind": "ConfigMap"})],
            size: SizeRecord { milli_cpu: 250, memory_mib: 512, scratch_gib: 20 },
            published_ports: Vec::new(),
            address: None,
            resolver: None,
            admitted_at: "2026-11-25T10:00:00.5Z".parse().unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let journals = Journals::open(folder.path().join("pods")).unwrap();
        let journal = journals.of("u-1");
        journal.write_pod(&record()).unwrap();
        assert_eq!(journal.read().unwrap(), (record(), StateRecord::default()));

        let instance = InstanceRecord { container: "web".to_owned(), attempt: 1, log_complete: false };
        let state = StateRecord { instances: [("web-1".to_owned(), instance)].into(), ..StateRecord::default() };
        journal.write_state(&state).unwrap();
        assert_eq!(journal.read().unwrap(), (record(), state));
        assert_eq!(journals.uids().unwrap(), ["u-1"]);

        journal.remove().unwrap();
        journal.remove().unwrap();
        assert_eq!(journals.uids().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn only_the_owner_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let journals = Journals::open(folder.path().join("pods")).unwrap();
        journals.of("u-1").write_pod(&record()).unwrap();
        for (path, mode) in [("pods", 0o700), ("pods/u-1", 0o700), ("pods/u-1/pod.json", 0o600)] {
            let found = folder.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{path}");
        }
    }

    #[test]
    fn a_journal_of_another_version_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let journals = Journals::open(folder.path().to_owned()).unwrap();
        journals.of("u-1").write_pod(&record()).unwrap();
        std::fs::write(folder.path().join("u-1/state.json"), "{\"later\": 1}").unwrap();
        let error = journals.of("u-1").read().unwrap_err();
        assert!(matches!(&error, JournalError::Syntax { path, .. } if path.ends_with("u-1/state.json")), "{error}");
    }
}
