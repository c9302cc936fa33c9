//! A place is what one VM has on the host: a number, and by it a user, a folder and a control group.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use monopod_types::MiB;
use monopod_vmm::VmError;

use crate::cgroup::Cgroup;
use crate::config::Config;
use crate::record::Record;

/// Which places are taken.
#[derive(Debug)]
pub(crate) struct Places {
    config: Arc<Config>,
    taken: Mutex<BTreeSet<u32>>,
}

/// One place. It stays taken until [`Place::clear`].
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    number: u32,
    /// User and group of the process.
    pub(crate) user: u32,
    /// Sockets, record and log of the process.
    pub(crate) folder: PathBuf,
    pub(crate) cgroup: Cgroup,
}

impl Places {
    pub(crate) fn new(config: Arc<Config>) -> Arc<Self> {
        Arc::new(Self { config, taken: Mutex::default() })
    }

    /// Takes a free place and furnishes it for a VM of so much memory, its own and its process'.
    pub(crate) fn take(self: &Arc<Self>, record: &Record, memory: MiB) -> Result<Place, VmError> {
        let place = self.reserve()?;
        match place.furnish(record, memory) {
            Ok(()) => Ok(place),
            Err(error) => {
                place.unfurnish();
                Err(error)
            }
        }
    }

    fn reserve(self: &Arc<Self>) -> Result<Place, VmError> {
        let places = self.config.users.places;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let number = (0..places).find(|number| !taken.contains(number)).ok_or(VmError::Full { places })?;
        taken.insert(number);
        Ok(self.at(number))
    }

    /// The places that folders of an earlier life are left of; they are taken from now on.
    pub(crate) fn left_over(self: &Arc<Self>) -> Result<Vec<Place>, VmError> {
        let run = &self.config.run;
        let name = || VmError::host(format!("read the run folder {}", run.display()));
        fs::create_dir_all(run).map_err(name())?;
        let mut found = Vec::new();
        for entry in fs::read_dir(run).map_err(name())? {
            let entry = entry.map_err(name())?;
            let number = entry.file_name().to_str().and_then(|name| name.strip_prefix("vm-")?.parse().ok());
            let Some(number) = number else { continue };
            if self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(number) {
                found.push(self.at(number));
            }
        }
        Ok(found)
    }

    fn at(self: &Arc<Self>, number: u32) -> Place {
        let config = &self.config;
        let name = format!("vm-{number}");
        Place {
            places: Arc::clone(self),
            number,
            user: config.users.first.saturating_add(number),
            folder: config.run.join(&name),
            cgroup: Cgroup::named(&config.cgroup, &name),
        }
    }
}

impl Place {
    fn furnish(&self, record: &Record, memory: MiB) -> Result<(), VmError> {
        let folder = &self.folder;
        let name = || VmError::host(format!("make the folder {}", folder.display()));
        fs::create_dir(folder).map_err(name())?;
        // Nobody but us finds the sockets; the process has them open already.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(name())?;
        record.write(folder).map_err(name())?;
        self.cgroup.create(memory)
    }

    /// Takes everything away when no process was ever here.
    pub(crate) fn unfurnish(&self) {
        for folder in self.cgroup.entrances().iter().filter_map(|entrance| entrance.parent()) {
            drop(fs::remove_dir(folder));
        }
        drop(fs::remove_dir_all(&self.folder));
        self.free();
    }

    /// Kills what is left in the control group and takes everything away. What cannot be taken away is logged, and the
    /// place stays taken then.
    pub(crate) async fn clear(&self) {
        if let Err(error) = self.cgroup.remove().await {
            tracing::error!(
                place = self.number,
                error = &error as &dyn std::error::Error,
                "a control group stays behind"
            );
            return;
        }
        match fs::remove_dir_all(&self.folder) {
            Ok(()) => self.free(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.free(),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(place = self.number, error, "the folder of a microVM stays behind");
            }
        }
    }

    fn free(&self) {
        self.places.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}
