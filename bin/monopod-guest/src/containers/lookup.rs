//! Finds the program that a container shall run, and says in the words that people know why it cannot be run.
//!
//! Called inside the container and as its user, so that what is found is what can be run.

use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{SFlag, stat};
use nix::unistd::{AccessFlags, eaccess};

/// Why a program is not run. The texts are those of the common container runtimes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("exec: {name:?}: executable file not found in $PATH")]
    NotFound { name: String },
    #[error("exec: {name:?}: cannot run executable found relative to current directory")]
    Relative { name: String },
    #[error("exec: {name:?}: stat {name}: {}", describe(*error))]
    Stat { name: String, error: Errno },
    #[error("exec: {name:?}: {}", describe(*error))]
    Refused { name: String, error: Errno },
}

/// The path of a program: as given when it has a slash, else the first hit in `path`, a list with colons.
pub(crate) fn find(name: &str, path: &str) -> Result<PathBuf, LookupError> {
    if name.contains('/') {
        return check(Path::new(name)).map(|()| PathBuf::from(name)).map_err(|error| match error {
            Miss::Stat(error) => LookupError::Stat { name: name.to_owned(), error },
            Miss::Refused(error) => LookupError::Refused { name: name.to_owned(), error },
        });
    }
    if name.is_empty() {
        return Err(LookupError::NotFound { name: String::new() });
    }
    let folders = path.split(':').map(|folder| Path::new(if folder.is_empty() { "." } else { folder }));
    let hit = folders.map(|folder| folder.join(name)).find(|candidate| check(candidate).is_ok());
    match hit {
        None => Err(LookupError::NotFound { name: name.to_owned() }),
        Some(found) if found.components().next() == Some(Component::RootDir) => Ok(found),
        Some(_) => Err(LookupError::Relative { name: name.to_owned() }),
    }
}

enum Miss {
    Stat(Errno),
    Refused(Errno),
}

fn check(path: &Path) -> Result<(), Miss> {
    let status = stat(path).map_err(Miss::Stat)?;
    if SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR {
        return Err(Miss::Refused(Errno::EISDIR));
    }
    eaccess(path, AccessFlags::X_OK).map_err(Miss::Refused)
}

/// An error in lower case, as most of the world's runtimes write it.
pub(crate) fn describe(error: Errno) -> String {
    let text = error.desc();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::find;

    #[test]
    fn a_program_is_found_along_the_path() {
        assert_eq!(find("sh", "/nowhere:/bin:/usr/bin").unwrap().to_str(), Some("/bin/sh"));
        assert_eq!(find("/bin/sh", "").unwrap().to_str(), Some("/bin/sh"));
    }

    #[test]
    fn what_cannot_be_run_is_told_in_known_words() {
        let folder = std::env::temp_dir().join(format!("monopod-lookup-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("plain");
        fs::write(&file, "text").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let file = file.to_str().unwrap().to_owned();
        let message = |name: &str, path: &str| find(name, path).unwrap_err().to_string();

        assert_eq!(message("nope", "/bin"), "exec: \"nope\": executable file not found in $PATH");
        assert_eq!(message("/nope", "/bin"), "exec: \"/nope\": stat /nope: no such file or directory");
        assert_eq!(message("/etc", "/bin"), "exec: \"/etc\": is a directory");
        assert_eq!(message(&file, "/bin"), format!("exec: {file:?}: permission denied"));
        assert_eq!(message("plain", folder.to_str().unwrap()), "exec: \"plain\": executable file not found in $PATH");
        assert_eq!(message("", "/bin"), "exec: \"\": executable file not found in $PATH");
        fs::remove_dir_all(folder).unwrap();
    }
}
