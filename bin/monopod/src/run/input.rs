//! What `monopod run` takes from a manifest: one Pod and what it may refer to.

use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use monopod_manifests::{Input, Located, Objects, Purpose, WorkloadKind, parse, read};
use monopod_policy::references::Keys;
use serde::Serialize;

use crate::failure::Failure;

/// One Pod, and the objects that stood beside it as JSON.
pub(crate) struct PodInput {
    pub(crate) pod: Pod,
    pub(crate) objects: Vec<Vec<u8>>,
}

/// Reads a file or standard input; unknown fields and missing keys are warned of.
pub(crate) fn read_objects(file: &Path) -> Result<Objects, Failure> {
    let input =
        if file.as_os_str() == "-" { Input::Stdin } else { Input::Path { path: file.to_path_buf(), recursive: false } };
    let objects = parse(&read(&[input])?, Purpose::Run)?;
    for warning in &objects.warnings {
        crate::terminal::warning(&format!("{}: {}", warning.origin, warning.message));
    }
    Ok(objects)
}

/// Reads the one Pod of a manifest.
pub(crate) fn read_pod(file: &Path) -> Result<PodInput, Failure> {
    let objects = read_objects(file)?;
    let workload = match objects.workloads.as_slice() {
        [workload] => workload,
        [] => return Err(Failure::Input(format!("{} holds no Pod and nothing that makes Pods", file.display()))),
        several => {
            let names: Vec<_> = several
                .iter()
                .map(|workload| format!("{} {}", workload.object.kind.as_str(), workload.object.name))
                .collect();
            let text = format!("{} holds {}; monopod run takes one at a time", file.display(), names.join(", "));
            return Err(Failure::Input(text));
        }
    };
    let secrets = objects.secrets.iter().map(|secret| &secret.object);
    let keys = Keys::new(objects.config_maps.iter().map(|map| &map.object), secrets);
    for missing in keys.missing(&workload.object.pod) {
        let place = workload.object.origin_of(&missing.field).unwrap_or_else(|| workload.origin.clone());
        crate::terminal::warning(&format!("{place}: {missing}"));
    }
    let mut pod = workload.object.pod.clone();
    // A Pod of a template has no name yet; its controller would make one.
    if pod.metadata.name.is_none() {
        pod.metadata.name = Some(workload.object.name.trim_end_matches('-').to_owned());
    }
    Ok(PodInput { pod, objects: as_json(&objects)? })
}

/// Everything a Pod may refer to, one JSON object each.
pub(crate) fn as_json(objects: &Objects) -> Result<Vec<Vec<u8>>, Failure> {
    let mut all = Vec::new();
    add(&objects.config_maps, &mut all)?;
    add(&objects.secrets, &mut all)?;
    add(&objects.persistent_volume_claims, &mut all)?;
    add(&objects.persistent_volumes, &mut all)?;
    add(&objects.services, &mut all)?;
    add(&objects.service_accounts, &mut all)?;
    add(&objects.limit_ranges, &mut all)?;
    add(&objects.runtime_classes, &mut all)?;
    Ok(all)
}

/// The Pods themselves, not those that a controller would make.
pub(crate) fn pods_as_json(objects: &Objects) -> Result<Vec<Vec<u8>>, Failure> {
    let pods = objects.workloads.iter().filter(|workload| workload.object.kind == WorkloadKind::Pod);
    pods.map(|workload| Ok(serde_json::to_vec(&workload.object.pod)?)).collect()
}

fn add<K: Serialize>(objects: &[Located<K>], all: &mut Vec<Vec<u8>>) -> Result<(), Failure> {
    for located in objects {
        all.push(serde_json::to_vec(&located.object)?);
    }
    Ok(())
}
