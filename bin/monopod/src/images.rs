//! `monopod images` and `monopod prune`: the images of this machine.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use monopod_host_proto::v1::{Image, ListImagesRequest, LoadImagesRequest, PruneImagesRequest, RemoveImageRequest};

use crate::Exit;
use crate::daemon::Folders;
use crate::failure::Failure;
use crate::terminal;

/// List, load and remove images.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    folders: Folders,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// List the images; what `monopod images` does on its own.
    #[command(alias = "list")]
    Ls,
    /// Take images from an archive (docker save, OCI layout).
    Load {
        /// The archive.
        #[arg(value_name = "FILE|DIR")]
        path: PathBuf,
    },
    /// Remove an image that no Pod uses.
    Rm {
        /// Reference or digest.
        image: String,
    },
}

/// Remove all images that no Pod uses.
#[derive(Debug, clap::Args)]
pub(crate) struct PruneArguments {
    #[command(flatten)]
    folders: Folders,
}

/// Runs `images`.
pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let mut client = arguments.folders.connect_or_start().await?;
    match arguments.task.unwrap_or(Task::Ls) {
        Task::Ls => {
            let images = client.list_images(ListImagesRequest {}).await?.into_inner().images;
            let rows: Vec<_> = images.iter().map(row).collect();
            terminal::print_text(&terminal::table(&["IMAGE", "DIGEST", "SIZE", "IN USE"], &rows))?;
        }
        Task::Load { path } => {
            let path = absolute(&path)?;
            for image in client.load_images(LoadImagesRequest { path }).await?.into_inner().images {
                terminal::print_line(&format!("{} {}", references(&image), image.digest))?;
            }
        }
        Task::Rm { image } => {
            client.remove_image(RemoveImageRequest { image: image.clone() }).await?;
            terminal::print_line(&image)?;
        }
    }
    Ok(Exit::Success)
}

/// Runs `prune`.
pub(crate) async fn prune(arguments: PruneArguments) -> Result<Exit, Failure> {
    let mut client = arguments.folders.connect().await?;
    let pruned = client.prune_images(PruneImagesRequest {}).await?.into_inner();
    pruned.removed.iter().try_for_each(|image| terminal::print_line(image))?;
    terminal::note(&format!("{} images removed, {} freed", pruned.removed.len(), terminal::bytes(pruned.freed)));
    Ok(Exit::Success)
}

fn row(image: &Image) -> Vec<String> {
    let digest: String = image.digest.trim_start_matches("sha256:").chars().take(12).collect();
    let used = if image.in_use { "yes" } else { "" };
    vec![references(image), digest, terminal::bytes(image.size), used.to_owned()]
}

fn references(image: &Image) -> String {
    if image.references.is_empty() { "<none>".to_owned() } else { image.references.join(", ") }
}

/// A path that means the same to the daemon.
pub(crate) fn absolute(path: &Path) -> Result<String, Failure> {
    let failed = |source| Failure::Io { action: format!("failed to find {}", path.display()), source };
    let absolute = std::fs::canonicalize(path).map_err(failed)?;
    absolute.into_os_string().into_string().map_err(|_| Failure::Input(format!("{} is not UTF-8", path.display())))
}
