//! Kernel parameters of the Pod.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::PersonalizeError;
use crate::safe_path::{PathError, join_below};

const FOLDER: &str = "/proc/sys";

/// Sets all of them, in the order of their names.
pub(super) fn apply(sysctls: &HashMap<String, String>) -> Result<(), PersonalizeError> {
    let mut sorted: Vec<_> = sysctls.iter().collect();
    sorted.sort();
    for (name, value) in sorted {
        let invalid = |_| PersonalizeError::Invalid { what: "kernel parameter", value: name.clone() };
        let path = path(name).map_err(invalid)?;
        fs::write(path, value).map_err(|source: io::Error| PersonalizeError::Sysctl { name: name.clone(), source })?;
    }
    Ok(())
}

/// Where a parameter lies. The first separator says which of `.` and `/` separates; the other stands for itself, as in
/// `net/ipv4/conf/eth0.1/forwarding`.
pub(super) fn path(name: &str) -> Result<PathBuf, PathError> {
    let relative = if name.find(['.', '/']).is_some_and(|place| name[place..].starts_with('/')) {
        name.to_owned()
    } else {
        let swap = |letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        name.chars().map(swap).collect()
    };
    join_below(Path::new(FOLDER), &relative)
}
