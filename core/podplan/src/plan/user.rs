//! As whom a container runs (kubelet, `verifyRunAsNonRoot` and `determineEffectiveSecurityContext`).

use k8s_openapi::api::core::v1::{Container, PersistentVolume, PodSecurityContext};
use monopod_agent_proto::v1;

use super::context::{ImageConfig, PodContext, described};
use super::error::PlanError;
use super::volumes::persistent_volume;

/// User of an image, as the kubelet learns it from the runtime: the group that an image may name plays no part.
enum ImageUser<'a> {
    Number(i64),
    Name(&'a str),
}

/// The user and groups of a container.
pub(super) fn user(
    context: &PodContext<'_>,
    container: &Container,
    image: &ImageConfig,
) -> Result<v1::User, PlanError> {
    let nothing = PodSecurityContext::default();
    let of_pod = context.spec().security_context.as_ref().unwrap_or(&nothing);
    let of_container = container.security_context.as_ref();
    let run_as_user = of_container.and_then(|own| own.run_as_user).or(of_pod.run_as_user);
    let run_as_group = of_container.and_then(|own| own.run_as_group).or(of_pod.run_as_group);
    let run_as_non_root = of_container.and_then(|own| own.run_as_non_root).or(of_pod.run_as_non_root);
    let image_user = ImageUser::of(image);
    if run_as_non_root == Some(true) {
        refuse_root(context, container, run_as_user, &image_user)?;
    }
    let mut groups = Vec::new();
    groups.extend(of_pod.fs_group.map(|group| id("fsGroup", group)).transpose()?);
    for &group in of_pod.supplemental_groups.iter().flatten() {
        groups.push(id("supplementalGroups", group)?);
    }
    groups.extend(groups_of_volumes(context));
    Ok(v1::User {
        image_user: match image_user {
            ImageUser::Number(number) => number.to_string(),
            ImageUser::Name(name) => name.to_owned(),
        },
        uid: run_as_user.map(|user| id("runAsUser", user)).transpose()?,
        gid: run_as_group.map(|group| id("runAsGroup", group)).transpose()?,
        supplemental_groups: groups,
        strict_groups: of_pod.supplemental_groups_policy.as_deref() == Some("Strict"),
    })
}

fn refuse_root(
    context: &PodContext<'_>,
    container: &Container,
    run_as_user: Option<i64>,
    image_user: &ImageUser<'_>,
) -> Result<(), PlanError> {
    let (pod, container) = (described(context.pod), container.name.clone());
    match (run_as_user, image_user) {
        (Some(0), _) => Err(PlanError::RunAsUserIsRoot { pod, container }),
        (Some(_), _) => Ok(()),
        (None, ImageUser::Number(0)) => Err(PlanError::ImageRunsAsRoot { pod, container }),
        (None, ImageUser::Number(user)) if id("", *user).is_err() => {
            Err(PlanError::ImageUserOutOfRange { user: *user, pod, container })
        }
        (None, ImageUser::Number(_)) => Ok(()),
        (None, ImageUser::Name(user)) => Err(PlanError::ImageUserIsAName { user: (*user).to_owned(), pod, container }),
    }
}

impl<'a> ImageUser<'a> {
    fn of(image: &'a ImageConfig) -> Self {
        let user = image.user.split_once(':').map_or(image.user.as_str(), |(user, _)| user);
        match user.parse() {
            Ok(number) => Self::Number(number),
            Err(_) if user.is_empty() => Self::Number(0),
            Err(_) => Self::Name(user),
        }
    }
}

/// Groups that persistent volumes ask for by annotation.
fn groups_of_volumes<'a>(context: &PodContext<'a>) -> impl Iterator<Item = u32> + 'a {
    let context = *context;
    let volumes = context.spec().volumes.iter().flatten();
    volumes.filter_map(move |volume| group_of(persistent_volume(&context, volume)?))
}

fn group_of(volume: &PersistentVolume) -> Option<u32> {
    volume.metadata.annotations.as_ref()?.get("pv.beta.kubernetes.io/gid")?.parse().ok()
}

/// A user or group as Linux knows it.
pub(super) fn id(field: &'static str, value: i64) -> Result<u32, PlanError> {
    let number = i32::try_from(value).ok().and_then(|value| u32::try_from(value).ok());
    number.ok_or(PlanError::IdOutOfRange { field, value })
}
