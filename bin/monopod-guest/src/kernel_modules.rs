//! Kernel modules of the guest image. Which ones, and in which order, was settled when the image was built: each list
//! names files below /lib/modules, what is needed before what needs it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

const FOLDER: &str = "/lib/modules";

/// Why a module is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    #[error("failed to read the list of kernel modules {path}")]
    List {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to open kernel module {name}")]
    Open {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("the kernel refused module {name}")]
    Refused {
        name: String,
        #[source]
        source: Errno,
    },
}

/// Loads the modules of one list: `boot`, or `nfs`. One that is there already is no error.
pub(crate) fn load(list: &str) -> Result<(), ModuleError> {
    let path = Path::new(FOLDER).join(format!("{list}.list"));
    let names = std::fs::read_to_string(&path).map_err(|source| ModuleError::List { path, source })?;
    names.lines().try_for_each(insert)
}

fn insert(name: &str) -> Result<(), ModuleError> {
    let file = File::open(Path::new(FOLDER).join(name))
        .map_err(|source| ModuleError::Open { name: name.to_owned(), source })?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(source) => Err(ModuleError::Refused { name: name.to_owned(), source }),
    }
}
