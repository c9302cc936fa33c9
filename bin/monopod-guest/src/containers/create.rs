//! Makes a container from a request.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use monopod_agent_proto::v1;
use nix::unistd::Pid;

use super::PodContext;
use super::cgroup::Cgroup;
use super::container::{Changes, Container, Parts};
use super::control::Job;
use super::environment::{self, Defaults};
use super::error::ContainerError;
use super::folder::Folder;
use super::launch::{self, Launched};
use super::process::{self, Limit, ProcessPlan, Stdio};
use super::spec::{self, Bind, Input, PodFile};
use super::streams::{Ends, Pipes};
use super::users::{self, Accounts, Ids};

/// Longest id.
const LONGEST_ID: usize = 253;
/// What precedes the reason of a container that could not be started, where people know these messages from.
const START_FAILED: &str = "failed to create containerd task: failed to create shim task: OCI runtime create failed: \
                            runc create failed: unable to start container process: error during container init: ";

/// What a container is made with, besides the request.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) context: PodContext,
    pub(super) folder: Folder,
    /// Root folder of its image.
    pub(super) image: PathBuf,
    /// Process whose process namespace it joins.
    pub(super) shares_with: Option<Pid>,
    pub(super) changes: Changes,
}

/// Checks what can be checked without looking at anything.
pub(super) fn check(request: &v1::CreateContainerRequest) -> Result<(), ContainerError> {
    let invalid = |what: String| Err(ContainerError::Invalid { what });
    let id = &request.id;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if id.is_empty() || id.len() > LONGEST_ID || !id.bytes().all(allowed) || id == "." || id == ".." {
        return invalid(format!("invalid container id {id:?}"));
    }
    if request.args.is_empty() {
        return invalid("no command specified".to_owned());
    }
    let directory = &request.working_directory;
    if !directory.is_empty() && !directory.starts_with('/') {
        return invalid(format!("working directory {directory:?} is not absolute"));
    }
    let destinations = request.mounts.iter().map(|mount| &mount.destination);
    if let Some(destination) = destinations.chain([&request.termination_message_path]).find(|path| {
        !path.is_empty() && (!path.starts_with('/') || path.split('/').any(|name| name == ".." || name.contains('\0')))
    }) {
        return invalid(format!("mount path {destination:?} is not absolute and plain"));
    }
    if let Some(limit) = request.rlimits.iter().find(|limit| process::resource(&limit.name).is_none()) {
        return invalid(format!("invalid rlimit type {}", limit.name));
    }
    Ok(())
}

/// Makes it. Blocks; for a thread that may. On failure nothing of it is left.
pub(super) fn make(
    request: v1::CreateContainerRequest,
    around: Surroundings,
) -> Result<(Arc<Container>, Ends), ContainerError> {
    let folder = around.folder.clone();
    let cgroup = Cgroup::of_container(folder.key());
    let made = try_make(request, around, cgroup.clone());
    if made.is_err() {
        // A process that was made, and of which the helper could not tell any more. What is left is told by `remove`.
        let _ = cgroup.kill();
        folder.remove();
        cgroup.remove();
    }
    made
}

fn try_make(
    request: v1::CreateContainerRequest,
    around: Surroundings,
    cgroup: Cgroup,
) -> Result<(Arc<Container>, Ends), ContainerError> {
    let begin = Instant::now();
    let folder = around.folder;
    folder.make(&around.image)?;
    folder.make_working_directory(&request.working_directory);
    let accounts = Accounts::parse(&folder.read_image_file("etc/passwd"), &folder.read_image_file("etc/group"));
    let ids = users::resolve(&request.user.clone().unwrap_or_default(), &accounts)?;
    let plan = plan(&request, ids, &around.context.hostname);
    let binds = binds(&request, &around.context, &folder)?;
    let namespace = around.shares_with.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/pid")));
    let paths = &around.context.paths;
    let files =
        [(paths.hosts(), "/etc/hosts"), (paths.hostname(), "/etc/hostname"), (paths.resolv_conf(), "/etc/resolv.conf")];
    let shm = paths.shm();
    let mut pod_files: Vec<PodFile<'_>> =
        files.iter().map(|(source, destination)| PodFile { source, destination, follows_root: true }).collect();
    pod_files.push(PodFile { source: &shm, destination: "/dev/shm", follows_root: false });
    let spec = spec::build(&Input {
        rootfs: &folder.rootfs(),
        read_only_root: request.read_only_root,
        cgroup: cgroup.path(),
        process_namespace: namespace.as_deref(),
        security: &request.security.clone().unwrap_or_default(),
        resources: &request.resources.unwrap_or_default(),
        pod_files: &pod_files,
        binds: &binds,
    })?;
    spec.save(folder.bundle().join("config.json"))?;

    let job = Job::Create {
        bundle: folder.bundle().to_owned(),
        state: folder.state(),
        key: folder.key().to_owned(),
        process: plan.clone(),
    };
    let prepared = begin.elapsed();
    let (init, ends) = launch(&around.context, &job, request.stdin)?;
    let launched = begin.elapsed();
    tracing::info!(
        container = %request.name,
        folder_us = prepared.as_micros(),
        runtime_us = (launched - prepared).as_micros(),
        "made a container"
    );
    let parts = Parts {
        id: request.id,
        name: request.name,
        folder,
        cgroup,
        plan,
        init: init.map_err(|text| format!("{START_FAILED}{text}: unknown")),
        ends: Ends { stdin: ends.stdin.clone(), outputs: Vec::new(), terminal: ends.terminal.clone() },
        stdin_once: request.stdin_once,
    };
    Ok((Arc::new(Container::new(parts, around.changes)), ends))
}

/// A process in place, or the reason why there is none, and our ends of its streams.
pub(super) type Placed = (Result<Pid, String>, Ends);

/// Has a helper do a job, with pipes or a terminal as its process wants.
pub(super) fn launch(context: &PodContext, job: &Job, stdin: bool) -> Result<Placed, ContainerError> {
    let try_launch = || -> io::Result<Placed> {
        let pipes = if job.takes_stdio() { Some(Pipes::new(stdin)?) } else { None };
        let stdio: Option<&Stdio> = pipes.as_ref().map(|pipes| &pipes.theirs);
        let (pid, terminal) = match launch::run(&context.reaper, job, stdio)? {
            Launched::Refused(text) => return Ok((Err(text), Ends::none())),
            Launched::Running { pid, terminal } => (pid, terminal),
        };
        let ends = match (pipes, terminal) {
            (Some(pipes), _) => pipes.into_ends()?,
            (None, Some(terminal)) => Ends::of_terminal(terminal, stdin)?,
            (None, None) => return Err(io::Error::other("the helper made no terminal")),
        };
        Ok((Ok(pid), ends))
    };
    try_launch().map_err(ContainerError::Helper)
}

fn plan(request: &v1::CreateContainerRequest, ids: Ids, hostname: &str) -> ProcessPlan {
    let security = request.security.clone().unwrap_or_default();
    let defaults = Defaults { hostname, home: &ids.home, tty: request.tty };
    let directory = if request.working_directory.is_empty() { "/" } else { &request.working_directory };
    ProcessPlan {
        args: request.args.clone(),
        environment: environment::complete(&request.environment, defaults),
        working_directory: PathBuf::from(directory),
        uid: ids.uid,
        gid: ids.gid,
        groups: ids.groups,
        seccomp: security.seccomp() == v1::Seccomp::RuntimeDefault,
        capabilities: security.capabilities,
        no_new_privileges: security.no_new_privileges,
        limits: request
            .rlimits
            .iter()
            .map(|limit| Limit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard })
            .collect(),
        oom_score_adj: request.resources.map_or(0, |resources| resources.oom_score_adj),
        tty: request.tty,
    }
}

/// Volumes and the termination message, each with its source in this machine.
fn binds(
    request: &v1::CreateContainerRequest,
    context: &PodContext,
    folder: &Folder,
) -> Result<Vec<Bind>, ContainerError> {
    let mut binds = Vec::new();
    for (index, mount) in request.mounts.iter().enumerate() {
        let volume = context
            .volumes
            .get(&mount.volume)
            .ok_or_else(|| ContainerError::NoVolume { volume: mount.volume.clone() })?;
        let source = if mount.sub_path.is_empty() {
            volume.root.clone()
        } else {
            let refused = |source| ContainerError::SubPath {
                volume: mount.volume.clone(),
                container: request.name.clone(),
                source,
            };
            if crate::safe_path::join_below(&volume.root, &mount.sub_path).is_err() {
                return Err(refused(nix::errno::Errno::EINVAL));
            }
            folder.hold_part(index, &volume.root, &mount.sub_path, !volume.files).map_err(refused)?
        };
        let destination = PathBuf::from(&mount.destination);
        binds.push(Bind { source, destination, read_only: mount.read_only || volume.files });
    }
    if !request.termination_message_path.is_empty() {
        let destination = PathBuf::from(&request.termination_message_path);
        binds.push(Bind { source: folder.termination_log(), destination, read_only: false });
    }
    let mut seen = HashSet::new();
    match binds.iter().find(|bind| !seen.insert(&bind.destination)) {
        Some(twice) => Err(ContainerError::Invalid { what: format!("two mounts at {}", twice.destination.display()) }),
        None => Ok(binds),
    }
}

#[cfg(test)]
mod tests;
