//! The last steps before a program runs in a container: terminal, limits, user, capabilities, seccomp, program.
//!
//! Both the first process of a container and further ones take them, inside the container's namespaces and still with
//! all of root's powers. [`prepare`] does everything but the last step, so that whatever can go wrong is known while the
//! container is only made; [`Ready::run`] is the last step.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, fstat, major, minor, umask};
use nix::unistd::{
    Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fchown, getcwd, setgroups, setresgid, setresuid,
};
use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};

use super::lookup::{self, LookupError, describe};
use super::{capabilities, environment, seccomp, sys};

/// Device numbers that tell terminals from anything that a container might put in their place.
const MULTIPLEXER: (u64, u64) = (5, 2);
const SLAVE_MAJOR: u64 = 136;

/// Everything about one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessPlan {
    pub(crate) args: Vec<String>,
    /// `NAME=value`.
    pub(crate) environment: Vec<String>,
    pub(crate) working_directory: PathBuf,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp: bool,
    pub(crate) limits: Vec<Limit>,
    pub(crate) oom_score_adj: i32,
    pub(crate) tty: bool,
}

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    /// Such as `RLIMIT_NOFILE`.
    pub(crate) name: String,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// Where a process without a terminal reads and writes.
#[derive(Debug)]
pub(crate) struct Stdio {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Which of a container's processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The first: makes what the image lacks.
    First,
    /// A further one.
    Further,
}

/// Why a process cannot be made ready. The texts reach whoever asks why a container does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("chdir to cwd ({directory:?}) set in config.json failed: {}", describe(*error))]
    WorkingDirectory { directory: String, error: Errno },
    #[error(
        "current working directory is outside of container mount namespace root -- possible container breakout detected"
    )]
    OutsideOfContainer,
    #[error("mkdir {directory}: {}", describe(*error))]
    MakeDirectory { directory: String, error: Errno },
    #[error("error setting rlimit type {name}: {}", describe(*error))]
    Limit { name: String, error: Errno },
    #[error("failed to {what}: {}", describe(*error))]
    Step { what: &'static str, error: Errno },
    #[error("failed to {what}")]
    Capabilities {
        what: &'static str,
        #[source]
        source: caps::errors::CapsError,
    },
    #[error(transparent)]
    Filter(#[from] seccomp::FilterError),
    #[error("an argument or variable holds a NUL byte")]
    Nul(#[from] std::ffi::NulError),
}

/// A process that only has to be run.
#[derive(Debug)]
pub(crate) struct Ready {
    program: CString,
    args: Vec<CString>,
    environment: Vec<CString>,
    /// Filters that are to be installed last.
    filters: Vec<BpfProgram>,
}

fn step<T>(what: &'static str, result: nix::Result<T>) -> Result<T, ProcessError> {
    result.map_err(|error| ProcessError::Step { what, error })
}

/// Makes this process the one of the plan, but for running its program. `stdio` is not used with a terminal; whoever
/// holds its other end gets it by `on_terminal`.
pub(crate) fn prepare(
    plan: &ProcessPlan,
    role: Role,
    stdio: Option<&Stdio>,
    on_terminal: impl FnOnce(BorrowedFd<'_>) -> nix::Result<()>,
) -> Result<Ready, ProcessError> {
    step("restore signals", sys::default_broken_pipe())?;
    umask(Mode::from_bits_truncate(0o022));
    let owner = Uid::from_raw(plan.uid);
    if plan.tty {
        let (master, slave) = open_terminal(role)?;
        step("hand over the terminal", on_terminal(master.as_fd()))?;
        step("set the controlling terminal", sys::take_terminal(slave.as_fd()))?;
        connect(slave.as_fd(), slave.as_fd(), slave.as_fd(), owner)?;
    } else if let Some(stdio) = stdio {
        connect(stdio.stdin.as_fd(), stdio.stdout.as_fd(), stdio.stderr.as_fd(), owner)?;
    }
    for limit in &plan.limits {
        set_limit(limit)?;
    }
    let capabilities = capabilities::parse(&plan.capabilities);
    let mut filters = if plan.seccomp { seccomp::runtime_default(&capabilities)? } else { Vec::new() };
    if role == Role::First {
        make_directory(&plan.working_directory)?;
    }
    let entered = chdir(&plan.working_directory);
    if !plan.no_new_privileges {
        // Later it would not be allowed any more.
        for filter in filters.drain(..) {
            step("install the seccomp filter", sys::install_filter(&filter))?;
        }
    }
    become_user(plan, &capabilities)?;
    match entered {
        // The user may be allowed what root without all capabilities is not.
        Err(Errno::EACCES | Errno::EPERM) => chdir(&plan.working_directory),
        other => other,
    }
    .map_err(|error| ProcessError::WorkingDirectory {
        directory: plan.working_directory.display().to_string(),
        error,
    })?;
    if !getcwd().is_ok_and(|path| path.is_absolute()) {
        return Err(ProcessError::OutsideOfContainer);
    }
    let name = plan.args.first().map_or("", String::as_str);
    let path = environment::value_of(&plan.environment, "PATH").unwrap_or_default();
    let program = lookup::find(name, path)?;
    if plan.no_new_privileges {
        step("set no_new_privs", prctl::set_no_new_privs())?;
    }
    let strings = |list: &[String]| list.iter().map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>();
    Ok(Ready {
        program: CString::new(program.into_os_string().into_encoded_bytes())?,
        args: strings(&plan.args)?,
        environment: strings(&plan.environment)?,
        filters,
    })
}

impl Ready {
    /// Runs the program. Returns only when that fails.
    pub(crate) fn run(&self) -> Errno {
        for filter in &self.filters {
            if let Err(error) = sys::install_filter(filter) {
                return error;
            }
        }
        let Err(error) = execve(&self.program, &self.args, &self.environment);
        error
    }

    /// The program, for messages.
    pub(crate) fn program(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }
}

/// A new terminal of the container's own, whose other end may leave it.
fn open_terminal(role: Role) -> Result<(PtyMaster, OwnedFd), ProcessError> {
    let master = step("open a terminal", posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC))?;
    let device = step("look at a terminal", fstat(&master))?.st_rdev;
    if (major(device), minor(device)) != MULTIPLEXER {
        return Err(ProcessError::Step { what: "recognise /dev/ptmx", error: Errno::ENODEV });
    }
    step("grant a terminal", grantpt(&master))?;
    step("unlock a terminal", unlockpt(&master))?;
    let path = step("name a terminal", ptsname_r(&master))?;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let slave = step("open the other end of a terminal", open(Path::new(&path), flags, Mode::empty()))?;
    let device = step("look at a terminal", fstat(&slave))?.st_rdev;
    if major(device) != SLAVE_MAJOR {
        return Err(ProcessError::Step { what: "recognise a terminal", error: Errno::ENODEV });
    }
    if role == Role::First {
        let flags = OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        step("make /dev/console", open("/dev/console", flags, Mode::from_bits_truncate(0o666)))?;
        let none: Option<&str> = None;
        let result = mount(Some(Path::new(&path)), "/dev/console", none, MsFlags::MS_BIND, none);
        step("mount /dev/console", result)?;
    }
    Ok((master, slave))
}

/// Makes these the standard streams, and the user their owner, so that it may open /dev/stdout and the like.
fn connect(
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    stderr: BorrowedFd<'_>,
    owner: Uid,
) -> Result<(), ProcessError> {
    for stream in [stdin, stdout, stderr] {
        let status = step("look at a standard stream", fstat(stream))?;
        if status.st_uid != owner.as_raw() && (major(status.st_rdev), minor(status.st_rdev)) != (1, 3) {
            match fchown(stream, Some(owner), None) {
                Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => {}
                Err(error) => return Err(ProcessError::Step { what: "give away a standard stream", error }),
            }
        }
    }
    step("connect the standard input", dup2_stdin(stdin))?;
    step("connect the standard output", dup2_stdout(stdout))?;
    step("connect the standard error", dup2_stderr(stderr))
}

fn set_limit(limit: &Limit) -> Result<(), ProcessError> {
    let refused = |error| ProcessError::Limit { name: limit.name.clone(), error };
    let resource = resource(&limit.name).ok_or_else(|| refused(Errno::EINVAL))?;
    setrlimit(resource, limit.soft, limit.hard).map_err(refused)
}

/// The resource of that name.
pub(crate) fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLIMIT_AS" => Resource::RLIMIT_AS,
        "RLIMIT_CORE" => Resource::RLIMIT_CORE,
        "RLIMIT_CPU" => Resource::RLIMIT_CPU,
        "RLIMIT_DATA" => Resource::RLIMIT_DATA,
        "RLIMIT_FSIZE" => Resource::RLIMIT_FSIZE,
        "RLIMIT_LOCKS" => Resource::RLIMIT_LOCKS,
        "RLIMIT_MEMLOCK" => Resource::RLIMIT_MEMLOCK,
        "RLIMIT_MSGQUEUE" => Resource::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => Resource::RLIMIT_NICE,
        "RLIMIT_NOFILE" => Resource::RLIMIT_NOFILE,
        "RLIMIT_NPROC" => Resource::RLIMIT_NPROC,
        "RLIMIT_RSS" => Resource::RLIMIT_RSS,
        "RLIMIT_RTPRIO" => Resource::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => Resource::RLIMIT_RTTIME,
        "RLIMIT_SIGPENDING" => Resource::RLIMIT_SIGPENDING,
        "RLIMIT_STACK" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

/// The working directory is made where the image lacks it.
fn make_directory(directory: &Path) -> Result<(), ProcessError> {
    fs::create_dir_all(directory).or_else(|error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        // What stands there is not for us to judge: entering it will tell.
        if matches!(errno, Errno::EEXIST | Errno::ENOTDIR | Errno::EROFS) {
            return Ok(());
        }
        Err(ProcessError::MakeDirectory { directory: directory.display().to_string(), error: errno })
    })
}

/// Gives up everything that the plan does not grant.
fn become_user(plan: &ProcessPlan, wanted: &CapsHashSet) -> Result<(), ProcessError> {
    let capabilities = |what| move |source| ProcessError::Capabilities { what, source };
    let bounding = caps::read(None, CapSet::Bounding).map_err(capabilities("read the bounding set"))?;
    for capability in bounding.difference(wanted).copied().collect::<Vec<Capability>>() {
        caps::drop(None, CapSet::Bounding, capability).map_err(capabilities("drop a capability"))?;
    }
    caps::securebits::set_keepcaps(true).map_err(capabilities("keep capabilities"))?;
    let groups: Vec<Gid> = plan.groups.iter().copied().map(Gid::from_raw).collect();
    step("set groups", setgroups(&groups))?;
    let (uid, gid) = (Uid::from_raw(plan.uid), Gid::from_raw(plan.gid));
    step("set the group", setresgid(gid, gid, gid))?;
    step("set the user", setresuid(uid, uid, uid))?;
    caps::securebits::set_keepcaps(false).map_err(capabilities("forget capabilities"))?;
    caps::clear(None, CapSet::Ambient).map_err(capabilities("clear the ambient set"))?;
    caps::clear(None, CapSet::Inheritable).map_err(capabilities("clear the inheritable set"))?;
    caps::set(None, CapSet::Effective, wanted).map_err(capabilities("set the effective set"))?;
    caps::set(None, CapSet::Permitted, wanted).map_err(capabilities("set the permitted set"))
}
