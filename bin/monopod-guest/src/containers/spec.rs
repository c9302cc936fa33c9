//! A container as the OCI runtime understands it: root, mounts, namespaces, cgroup, hidden paths.
//!
//! What concerns the process itself (user, capabilities, seccomp, limits, program) is not in here but in
//! [`process`](super::process): the runtime's last step and further programs in the container must do the same.

mod mounts;

use std::path::{Path, PathBuf};

use monopod_agent_proto::v1;
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Process, RootBuilder, Spec, SpecBuilder,
};

use super::resources;
pub(crate) use mounts::{Bind, PodFile};

/// Everything that the spec of a container is made of.
#[derive(Clone, Debug)]
pub(crate) struct Input<'a> {
    pub(crate) rootfs: &'a Path,
    pub(crate) read_only_root: bool,
    /// Below the root of the cgroup file system.
    pub(crate) cgroup: &'a Path,
    /// Namespace file of the processes to share; an own namespace without one.
    pub(crate) process_namespace: Option<&'a Path>,
    pub(crate) security: &'a v1::Security,
    pub(crate) resources: &'a v1::Resources,
    /// Files of the Pod and the /dev/shm that containers share, in that order.
    pub(crate) pod_files: &'a [PodFile<'a>],
    /// Volumes and the file for the termination message.
    pub(crate) binds: &'a [Bind],
}

/// Makes the spec.
///
/// # Errors
/// When a part is missing, which would be a mistake here.
pub(crate) fn build(input: &Input<'_>) -> Result<Spec, OciSpecError> {
    let linux = LinuxBuilder::default()
        .namespaces(namespaces(input.process_namespace)?)
        .resources(resources::cgroup(input.resources))
        .cgroups_path(input.cgroup)
        .masked_paths(input.security.masked_paths.clone())
        .readonly_paths(input.security.read_only_paths.clone())
        .rootfs_propagation("private")
        .build()?;
    let root = RootBuilder::default().path(input.rootfs).readonly(input.read_only_root).build()?;
    let mut spec = SpecBuilder::default()
        .version("1.0.2")
        .root(root)
        .mounts(mounts::all(input)?)
        .process(process(input.resources.oom_score_adj))
        .linux(linux)
        .build()?;
    // The machine has the Pod's name already.
    spec.set_hostname(None);
    Ok(spec)
}

/// The runtime's own idea of the process: all of root's powers, for as long as it takes to give most of them up.
fn process(oom_score_adj: i32) -> Process {
    let mut process = Process::default();
    process
        .set_terminal(Some(false))
        .set_args(Some(vec!["/".to_owned()]))
        .set_env(None)
        .set_cwd(PathBuf::from("/"))
        .set_capabilities(None)
        .set_rlimits(None)
        .set_no_new_privileges(None)
        .set_oom_score_adj(Some(oom_score_adj));
    process
}

/// Host name, network and inter-process communication are the Pod's, and the whole machine is the Pod's.
fn namespaces(process_namespace: Option<&Path>) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    let own = |kind| LinuxNamespaceBuilder::default().typ(kind).build();
    let processes = match process_namespace {
        Some(path) => LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Pid).path(path).build()?,
        None => own(LinuxNamespaceType::Pid)?,
    };
    Ok(vec![processes, own(LinuxNamespaceType::Mount)?, own(LinuxNamespaceType::Cgroup)?])
}

#[cfg(test)]
mod tests;
