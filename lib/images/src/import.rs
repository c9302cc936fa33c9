//! Images from files: OCI layouts, as a folder or in a tar archive, and what `docker save` writes, also compressed.

mod docker;
mod files;
mod layout;

use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::ImageError;
use crate::limits::Limits;
use crate::make::Order;
use crate::reference::Reference;

use files::Files;
pub(crate) use files::LayerFile;

#[cfg(test)]
mod tests;

/// An image in an archive, and what it is called there.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) references: Vec<Reference>,
    pub(crate) order: Order,
}

/// Reads what images an archive or a layout holds. `scratch` gives a file to which a compressed archive is unpacked.
///
/// # Errors
/// When it is neither, or is broken.
pub(crate) fn read(
    path: &Path,
    limits: &Limits,
    scratch: impl FnOnce() -> std::io::Result<NamedTempFile>,
) -> Result<Vec<Found>, ImageError> {
    let files = Files::open(path, limits, scratch)?;
    let names = docker::names(&files, limits)?;
    let found = if files.has("index.json") {
        layout::read(&files, limits, &names, path)?
    } else if files.has("manifest.json") {
        docker::read(&files, limits, path)?
    } else {
        let problem = "neither index.json nor manifest.json in it, so it holds no image";
        return Err(ImageError::malformed(format!("archive {}", path.display()), problem));
    };
    if found.is_empty() {
        return Err(ImageError::NoPlatform { reference: path.display().to_string() });
    }
    Ok(found)
}

/// A name for an image that has none: its file's, under a registry that does not exist.
fn name_of_file(path: &Path, tag: &str) -> Option<Reference> {
    let stem = path.file_name()?.to_string_lossy().to_lowercase();
    let stem = stem.split('.').next()?;
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("monopod.local/{}:{tag}", name.trim_matches('-')).parse().ok()
}
