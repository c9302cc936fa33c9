//! One container as the guest is asked to make it (kubelet, `generateContainerConfig`; containerd, from there to the
//! runtime's spec).

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, Pod};
use monopod_agent_proto::v1::{self, CreateContainerRequest};

use super::context::{ImageConfig, PodContext};
use super::environment::{self, EnvironmentFiles, Variables};
use super::error::PlanError;
use super::expansion::expand_references;
use super::lookup::find_container;
use super::mounts::{absolute, mounts};
use super::resources::resources;
use super::security::security;
use super::user::user;

/// Where the reason for its end is read from, unless the container says otherwise.
const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";
const DEFAULT_STOP_SIGNAL: &str = "SIGTERM";

/// One run of one container.
#[derive(Clone, Copy, Debug)]
pub struct ContainerInstance<'a> {
    /// Name of the container in the Pod: an ordinary, init or ephemeral one.
    pub container: &'a str,
    /// Id of this run, unique for the life of the guest.
    pub id: &'a str,
    /// What the image says.
    pub image: &'a ImageConfig,
    /// Serial of the image's disk.
    pub image_serial: &'a str,
    /// Id of the container whose processes an ephemeral container shares.
    pub target: Option<&'a str>,
    /// The files that [`super::environment_files`] names.
    pub environment_files: &'a EnvironmentFiles,
}

/// What the guest is asked for one run of a container.
///
/// # Errors
/// Something that the container needs is missing or forbidden. The error's reason and text are for the container's
/// waiting state; the kubelet tries again.
pub fn container_request(
    context: &PodContext<'_>,
    instance: &ContainerInstance<'_>,
) -> Result<CreateContainerRequest, PlanError> {
    let container = find_container(context.pod, instance.container);
    let container = container.ok_or_else(|| PlanError::ContainerNotFound { name: instance.container.to_owned() })?;
    // In the kubelet's order, so that of several errors the same one is told.
    let variables = environment::of_pod(context, &container, instance.environment_files)?;
    let mounts = mounts(context, &container, &variables)?;
    let user = user(context, &container, instance.image)?;
    let security = security(context, &container)?;
    let args = arguments(&container, instance.image, &variables)?;
    let own_security = container.security_context.as_ref();
    Ok(CreateContainerRequest {
        id: instance.id.to_owned(),
        name: container.name.clone(),
        image_serial: instance.image_serial.to_owned(),
        read_only_root: own_security.is_some_and(|own| own.read_only_root_filesystem == Some(true)),
        args,
        environment: environment::complete(&container, instance.image, &variables).into_list(),
        working_directory: working_directory(&container, instance.image),
        user: Some(user),
        mounts,
        security: Some(security),
        resources: Some(resources(context, &container)?),
        rlimits: rlimits(context),
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        termination_message_path: termination_message_path(&container),
        target_container: instance.target.unwrap_or_default().to_owned(),
    })
}

/// The signal that asks a container to stop: what the Pod says, else the image, else SIGTERM.
pub fn stop_signal<'a>(pod: &'a Pod, container: &str, image: &'a ImageConfig) -> Cow<'a, str> {
    let of_pod = find_container(pod, container).and_then(|container| container.lifecycle.clone()?.stop_signal);
    match of_pod {
        Some(signal) => Cow::Owned(signal),
        None if image.stop_signal.is_empty() => Cow::Borrowed(DEFAULT_STOP_SIGNAL),
        None => Cow::Borrowed(&image.stop_signal),
    }
}

/// Program and arguments. A command of the Pod replaces the image's entrypoint and its arguments too; arguments alone
/// replace only these.
fn arguments(container: &Container, image: &ImageConfig, variables: &Variables) -> Result<Vec<String>, PlanError> {
    let expanded = |texts: Option<&Vec<String>>| -> Vec<String> {
        let value = |name: &str| variables.get(name).map(str::to_owned);
        texts.into_iter().flatten().map(|text| expand_references(text, value)).collect()
    };
    let mut command = expanded(container.command.as_ref());
    let mut arguments = expanded(container.args.as_ref());
    if command.is_empty() {
        if arguments.is_empty() {
            arguments.clone_from(&image.cmd);
        }
        // An image of one empty entry says that it has no entrypoint.
        if image.entrypoint != [""] {
            command.clone_from(&image.entrypoint);
        }
    }
    command.append(&mut arguments);
    if command.is_empty() { Err(PlanError::NoCommand) } else { Ok(command) }
}

fn working_directory(container: &Container, image: &ImageConfig) -> String {
    let stated = container.working_dir.as_deref().filter(|directory| !directory.is_empty());
    let directory = stated.unwrap_or(&image.working_dir);
    if directory.is_empty() { "/".to_owned() } else { directory.to_owned() }
}

fn termination_message_path(container: &Container) -> String {
    let stated = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
    absolute(stated.unwrap_or(TERMINATION_MESSAGE_PATH))
}

fn rlimits(context: &PodContext<'_>) -> Vec<v1::Rlimit> {
    let limits = context.settings.rlimits.iter();
    limits.map(|limit| v1::Rlimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard }).collect()
}
