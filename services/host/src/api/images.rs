//! Calls about images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::UNIX_EPOCH;

use monopod_host_proto::v1 as proto;
use monopod_images::{ImageError, Images, Listed};
use tonic::Status;

use super::convert::status;
use crate::host::Host;

pub(super) fn list(host: &Host) -> Result<proto::ListImagesResponse, Status> {
    let listed = host.images.list().map_err(failed)?;
    let in_use = in_use(host);
    let mut images: BTreeMap<String, proto::Image> = BTreeMap::new();
    for Listed { reference, digest, id, size, used } in listed {
        let last_used = used.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let image = images.entry(id.to_string()).or_insert_with(|| proto::Image {
            digest: digest.to_string(),
            size,
            last_used: u64::try_from(last_used).unwrap_or(u64::MAX),
            ..proto::Image::default()
        });
        image.in_use |= in_use.contains(&reference.to_string());
        image.references.push(reference.to_string());
    }
    Ok(proto::ListImagesResponse { images: images.into_values().collect() })
}

/// Names of the images of all Pods that run.
fn in_use(host: &Host) -> BTreeSet<String> {
    let running = host.pods().into_iter().filter(|handle| handle.shared.sandbox().is_some());
    let pods = running.filter_map(|handle| handle.shared.news.pod());
    let names = pods.flat_map(|pod| {
        let spec = pod.spec.clone().unwrap_or_default();
        spec.containers.into_iter().chain(spec.init_containers.unwrap_or_default()).filter_map(|one| one.image)
    });
    names.filter_map(|name| Images::reference(&name).ok()).map(|reference| reference.to_string()).collect()
}

pub(super) async fn load(host: &Host, request: &proto::LoadImagesRequest) -> Result<proto::LoadImagesResponse, Status> {
    let images = host.images.import_archive(Path::new(&request.path), |_| {}).await.map_err(failed)?;
    let loaded = images.into_iter().map(|image| proto::Image {
        references: vec![image.reference.to_string()],
        digest: image.digest.to_string(),
        size: image.size,
        ..proto::Image::default()
    });
    Ok(proto::LoadImagesResponse { images: loaded.collect() })
}

pub(super) async fn remove(
    host: &Host,
    request: &proto::RemoveImageRequest,
) -> Result<proto::RemoveImageResponse, Status> {
    let by_digest = host.images.list().map_err(failed)?;
    let wanted: Vec<_> = by_digest.into_iter().filter(|one| one.digest.to_string() == request.image).collect();
    if wanted.is_empty() {
        let reference = Images::reference(&request.image).map_err(failed)?;
        host.images.remove(&reference).await.map_err(failed)?;
    }
    for image in wanted {
        host.images.remove(&image.reference).await.map_err(failed)?;
    }
    Ok(proto::RemoveImageResponse {})
}

pub(super) async fn prune(host: &Host) -> Result<proto::PruneImagesResponse, Status> {
    let collected = host.images.prune().await.map_err(failed)?;
    let removed = collected.removed.iter().map(ToString::to_string).collect();
    Ok(proto::PruneImagesResponse { removed, freed: collected.freed })
}

fn failed(error: ImageError) -> Status {
    status(error.into())
}
