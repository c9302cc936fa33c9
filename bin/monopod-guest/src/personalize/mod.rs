//! Makes a guest that is nobody's one Pod's own, before anything of the Pod can run in it.
//!
//! A template restored twice is the same machine twice: the same random numbers to come, the same clock, the same
//! identity. So the order is fixed: entropy first, since everything after it may draw on the generator; then clock and
//! identity; then what the Pod needs. The first failure ends it, and [`crate::server`] lets nothing happen ever after.
//!
//! Guarantees: on success the kernel's generator has been seeded from the host's entropy, and boot_id was made after
//! that. Assumptions: the host sends entropy that it has used for nothing else. The monotonic clock goes on from the
//! template's; only the wall clock is set.

mod identity;
mod network;
mod scratch;
mod sysctls;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use monopod_agent_proto::v1;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use tonic::Status;

use crate::containers::{Containers, PodContext};
use crate::disks::DiskError;
use crate::paths::Paths;
use crate::reaper::Reaper;
use crate::server::Pod;
use crate::volumes::Volumes;
use network::{Network, NetworkError};

/// Fewest bytes of entropy: what the kernel's generator starts from.
const ENTROPY: usize = 32;
/// Of /dev/shm where the host says nothing.
const SHM_SIZE: u64 = 64 << 20;

/// Why a guest did not become a Pod's own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PersonalizeError {
    #[error("the request has {given} bytes of entropy, at least {ENTROPY} are needed")]
    TooLittleEntropy { given: usize },
    #[error("{what} {value:?} cannot be used")]
    Invalid { what: &'static str, value: String },
    #[error("failed to {what}")]
    System {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("failed to set kernel parameter {name}")]
    Sysctl {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to set the network up")]
    Network(#[from] NetworkError),
    #[error("failed to find the scratch disk")]
    ScratchDisk(#[from] DiskError),
    #[error("failed to mount {device} as the scratch disk")]
    MountScratch {
        device: PathBuf,
        #[source]
        source: Errno,
    },
}

impl PersonalizeError {
    /// For the host's events and metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::TooLittleEntropy { .. } => "TooLittleEntropy",
            Self::Invalid { .. } => "InvalidIdentity",
            Self::System { .. } => "GuestSystemFailed",
            Self::Sysctl { .. } => "SysctlFailed",
            Self::Network(error) => error.reason(),
            Self::ScratchDisk(_) => "ScratchDiskMissing",
            Self::MountScratch { .. } => "ScratchDiskUnusable",
        }
    }
}

impl From<PersonalizeError> for Status {
    fn from(error: PersonalizeError) -> Self {
        let text = format!("{}: {:#}", error.reason(), chain(&error));
        match error {
            PersonalizeError::TooLittleEntropy { .. } | PersonalizeError::Invalid { .. } => {
                Self::invalid_argument(text)
            }
            PersonalizeError::Sysctl { .. }
            | PersonalizeError::System { .. }
            | PersonalizeError::Network(_)
            | PersonalizeError::ScratchDisk(_)
            | PersonalizeError::MountScratch { .. } => Self::internal(text),
        }
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

/// Names the step that an I/O error belongs to.
fn system(what: &'static str) -> impl Fn(io::Error) -> PersonalizeError {
    move |source| PersonalizeError::System { what, source }
}

/// Durations of the steps done so far.
struct Stages {
    done: Vec<v1::Stage>,
    since: Instant,
}

impl Stages {
    fn end(&mut self, name: &str) {
        let nanoseconds = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.done.push(v1::Stage { name: name.to_owned(), nanoseconds });
        self.since = Instant::now();
    }
}

/// Does all of it, in order.
///
/// # Errors
/// At the first step that fails. The guest is then of no use.
pub(crate) async fn personalize(
    request: v1::PersonalizeRequest,
    paths: &Paths,
    reaper: &Reaper,
) -> Result<(Pod, v1::PersonalizeResponse), PersonalizeError> {
    let mut stages = Stages { done: Vec::new(), since: Instant::now() };
    seed(&request.entropy)?;
    stages.end("entropy");
    let network = request.network.as_ref().map(Network::try_from).transpose()?;
    identity::set_clock(request.wall_clock)?;
    let boot_id = identity::boot_id()?;
    identity::take(&request, paths)?;
    stages.end("identity");
    network::set_up(network.as_ref()).await?;
    stages.end("network");
    sysctls::apply(&request.sysctls)?;
    stages.end("sysctls");
    scratch::mount_scratch(&request.scratch_serial, paths).await?;
    stages.end("scratch");
    let files = request.files.unwrap_or_default();
    write_files(paths, &files)?;
    mount_shm(&paths.shm(), request.shm_size)?;
    let volumes = Volumes::new(paths.clone(), reaper.clone());
    let containers = Containers::new(PodContext {
        paths: paths.clone(),
        hostname: request.hostname,
        share_process_namespace: request.share_process_namespace,
        reaper: reaper.clone(),
        volumes: volumes.clone(),
    })
    .map_err(system("make room for containers"))?;
    stages.end("pod");
    let pod = Pod { uid: request.pod_uid, paths: paths.clone(), containers, volumes };
    let wall_clock = crate::agent_log::now();
    Ok((pod, v1::PersonalizeResponse { boot_id, wall_clock, stages: stages.done }))
}

/// Gives the kernel's generator the host's entropy, and makes it start anew.
fn seed(entropy: &[u8]) -> Result<(), PersonalizeError> {
    if entropy.len() < ENTROPY {
        return Err(PersonalizeError::TooLittleEntropy { given: entropy.len() });
    }
    let what = "seed the random generator";
    let random = fs::OpenOptions::new().write(true).open("/dev/urandom").map_err(system(what))?;
    crate::sys::add_entropy(&random, entropy).map_err(io::Error::from).map_err(system(what))
}

/// Writes the Pod's files in place: containers have them bound, and see what is in them.
///
/// # Errors
/// When one cannot be written.
pub(crate) fn write_pod_files(paths: &Paths, files: &v1::PodFiles) -> Result<(), Status> {
    Ok(write_files(paths, files)?)
}

fn write_files(paths: &Paths, files: &v1::PodFiles) -> Result<(), PersonalizeError> {
    for (path, text) in [(paths.hosts(), &files.hosts), (paths.resolv_conf(), &files.resolv_conf)] {
        fs::write(path, text).map_err(system("write the Pod's files"))?;
    }
    Ok(())
}

fn mount_shm(target: &Path, size: u64) -> Result<(), PersonalizeError> {
    let size = if size == 0 { SHM_SIZE } else { size };
    let what = "mount the Pod's /dev/shm";
    fs::create_dir_all(target).map_err(system(what))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("mode=1777,size={size}");
    mount(Some("shm"), target, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(|error| system(what)(io::Error::from(error)))
}

#[cfg(test)]
mod tests;
