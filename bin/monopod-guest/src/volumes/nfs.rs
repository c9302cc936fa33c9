//! Network file systems, mounted by the kernel's own NFS client. Its modules are loaded when the first one is asked for.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use monopod_agent_proto::v1;
use nix::errno::Errno;
use nix::mount::MsFlags;
use tonic::Code;

use super::mount_helper::{HelperError, Mount};
use crate::kernel_modules::{self, ModuleError};
use crate::paths::MACHINE_ID;
use crate::reaper::Reaper;

/// How long a server may take to answer. The caller tries again.
const LIMIT: Duration = Duration::from_secs(30);
/// Versions tried, best first, when the options name none. 4.2 is for who asks for it: its READ_PLUS has given zeros in the
/// place of what another client had written (nfs-ganesha 4.3).
const VERSIONS: [&str; 2] = ["4.1", "4.0"];
/// What tells this client from others of the same host name, such as the Pod of that name in another namespace: a server takes
/// two of one identity for one that has started anew, and drops what the first has open.
const CLIENT_ID: &str = "/sys/module/nfs/parameters/nfs4_unique_id";

/// Why it is not mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NfsError {
    #[error("server {server:?} is not an IP address")]
    Server { server: String },
    #[error("export {export:?} is not an absolute path")]
    Export { export: String },
    #[error("mount option {option:?} is not supported")]
    Option { option: String },
    #[error("failed to load the NFS client")]
    Client(#[from] ModuleError),
    #[error("failed to give the NFS client an identity")]
    Identity(#[source] io::Error),
    #[error("failed to make the mount point")]
    MountPoint(#[source] io::Error),
    #[error("failed to mount {source_name}")]
    Mount {
        source_name: String,
        #[source]
        source: HelperError,
    },
}

impl NfsError {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Server { .. } | Self::Export { .. } => "InvalidNfsVolume",
            Self::Option { .. } => "InvalidMountOption",
            Self::Client(_) => "NfsClientMissing",
            Self::Identity(_) | Self::MountPoint(_) => "VolumeFailed",
            Self::Mount { source: HelperError::Late(_), .. } => "NfsServerSilent",
            Self::Mount { .. } => "NfsMountFailed",
        }
    }

    pub(super) fn code(&self) -> Code {
        match self {
            Self::Server { .. } | Self::Export { .. } | Self::Option { .. } => Code::InvalidArgument,
            Self::Client(_) | Self::Identity(_) | Self::MountPoint(_) => Code::Internal,
            Self::Mount { source: HelperError::Late(_), .. } => Code::DeadlineExceeded,
            Self::Mount { .. } => Code::Unavailable,
        }
    }
}

/// Options of `mount -o`, as mount(2) takes them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) flags: MsFlags,
    /// What the file system reads itself.
    pub(super) data: Vec<String>,
    /// The protocol version among them.
    pub(super) version: Option<String>,
}

/// Sorts the options. Those that only tools and boot scripts read are left out.
pub(super) fn options(wanted: &[String], read_only: bool) -> Result<Options, NfsError> {
    let mut options = Options { flags: MsFlags::empty(), data: Vec::new(), version: None };
    for option in wanted.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let flag = match name {
            "ro" => MsFlags::MS_RDONLY,
            "noatime" => MsFlags::MS_NOATIME,
            "nodiratime" => MsFlags::MS_NODIRATIME,
            "relatime" => MsFlags::MS_RELATIME,
            "strictatime" => MsFlags::MS_STRICTATIME,
            "nosuid" => MsFlags::MS_NOSUID,
            "nodev" => MsFlags::MS_NODEV,
            "noexec" => MsFlags::MS_NOEXEC,
            "sync" => MsFlags::MS_SYNCHRONOUS,
            "rw" | "atime" | "diratime" | "suid" | "dev" | "exec" | "async" | "defaults" | "_netdev" | "auto"
            | "noauto" | "nofail" | "user" | "nouser" | "users" | "bg" | "fg" | "retry" => MsFlags::empty(),
            "vers" | "nfsvers" if value.starts_with('4') => {
                options.version = Some(if value == "4" { "4.0" } else { value }.to_owned());
                MsFlags::empty()
            }
            // An older protocol needs helpers that the guest does not have; the address is ours to give.
            "vers" | "nfsvers" | "addr" | "clientaddr" | "mountaddr" | "tls" => {
                return Err(NfsError::Option { option: option.to_owned() });
            }
            _ => {
                options.data.push(option.to_owned());
                MsFlags::empty()
            }
        };
        options.flags |= flag;
    }
    options.flags.set(MsFlags::MS_RDONLY, read_only || options.flags.contains(MsFlags::MS_RDONLY));
    Ok(options)
}

/// The source as the kernel names it: an IPv6 address stands in brackets.
pub(super) fn source(server: IpAddr, export: &str) -> String {
    match server {
        IpAddr::V4(server) => format!("{server}:{export}"),
        IpAddr::V6(server) => format!("[{server}]:{export}"),
    }
}

/// Mounts the export on `target`.
pub(super) async fn mount(target: &Path, wanted: &v1::Nfs, reaper: &Reaper) -> Result<(), NfsError> {
    let server: IpAddr = wanted.server.parse().map_err(|_| NfsError::Server { server: wanted.server.clone() })?;
    if !wanted.export.starts_with('/') || wanted.export.contains('\0') {
        return Err(NfsError::Export { export: wanted.export.clone() });
    }
    let options = options(&wanted.options, wanted.read_only)?;
    kernel_modules::load("nfs")?;
    let identity = fs::read_to_string(MACHINE_ID).and_then(|id| fs::write(CLIENT_ID, id.trim_end()));
    identity.map_err(NfsError::Identity)?;
    fs::create_dir_all(target).map_err(NfsError::MountPoint)?;
    let source_name = source(server, &wanted.export);
    let versions = options.version.as_deref().map_or_else(|| VERSIONS.to_vec(), |version| vec![version]);
    let mut last = HelperError::Refused(Errno::EPROTONOSUPPORT);
    for version in versions {
        let data = [format!("addr={server}"), format!("vers={version}")].into_iter().chain(options.data.clone());
        let data = data.collect::<Vec<_>>().join(",");
        let mount = Mount { source: &source_name, target, kind: "nfs4", flags: options.flags, data: &data };
        match mount.run(reaper, LIMIT).await {
            Ok(()) => return Ok(()),
            Err(HelperError::Refused(error @ (Errno::EPROTONOSUPPORT | Errno::EINVAL))) => {
                last = HelperError::Refused(error);
            }
            Err(source) => return Err(NfsError::Mount { source_name, source }),
        }
    }
    Err(NfsError::Mount { source_name, source: last })
}
