//! The one place where paths that come from the host or a tenant are joined to ours.

use std::path::{Component, Path, PathBuf};

/// Why a path was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It would leave the folder, or start somewhere else.
    #[error("path {path:?} must be relative and without `..`")]
    NotBelow {
        /// As given.
        path: String,
    },
    /// It names nothing.
    #[error("a path is empty")]
    Empty,
}

/// `base` and the relative path below it. Says nothing about symbolic links, which only the kernel can follow safely.
///
/// # Errors
/// When the path is absolute, empty, or holds `..` or a NUL.
pub fn join_below(base: &Path, path: &str) -> Result<PathBuf, PathError> {
    let mut joined = base.to_path_buf();
    let mut names = 0;
    let refused = || PathError::NotBelow { path: path.to_owned() };
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) if !path.contains('\0') => {
                joined.push(name);
                names += 1;
            }
            Component::CurDir => {}
            Component::Normal(_) | Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(refused());
            }
        }
    }
    if names == 0 { Err(PathError::Empty) } else { Ok(joined) }
}

/// One name below `base`: a volume, a container.
///
/// # Errors
/// When it is not exactly one name.
pub fn join_name(base: &Path, name: &str) -> Result<PathBuf, PathError> {
    let joined = join_below(base, name)?;
    if joined.parent() == Some(base) && joined.file_name().is_some_and(|last| last == name) {
        Ok(joined)
    } else {
        Err(PathError::NotBelow { path: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{PathError, join_below, join_name};

    #[test]
    fn what_stays_below_is_joined() {
        let base = Path::new("/base");
        assert_eq!(join_below(base, "a/./b").unwrap(), Path::new("/base/a/b"));
        assert_eq!(join_name(base, "..data").unwrap(), Path::new("/base/..data"));
    }

    #[test]
    fn what_leaves_is_refused() {
        let base = Path::new("/base");
        for path in ["/etc", "../a", "a/../../b", "a/..", "..", "a\0b"] {
            assert_eq!(join_below(base, path), Err(PathError::NotBelow { path: path.to_owned() }), "{path:?}");
        }
        for path in ["", ".", "./"] {
            assert_eq!(join_below(base, path), Err(PathError::Empty), "{path:?}");
        }
        for name in ["a/b", "a/", "./a"] {
            assert!(join_name(base, name).is_err(), "{name:?}");
        }
    }
}
