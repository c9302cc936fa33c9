//! What the daemon tells the jail's program.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Most bytes of an order.
pub(super) const MOST: usize = 64 << 10;

/// What to become, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Order {
    /// The files that let a process into a control group.
    pub(crate) cgroup_entrances: Vec<PathBuf>,
    /// An empty folder, upon which the new root is mounted in our own namespace.
    pub(crate) root: PathBuf,
    /// What of the host is seen below the new root.
    pub(crate) binds: Vec<Bind>,
    /// User and group.
    pub(crate) user: u32,
    /// The program and its arguments. `{fdN}` in an argument is the number of the N-th file that came with the order.
    pub(crate) command: Vec<String>,
}

/// A file or folder of the host that is seen in the jail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Bind {
    /// Where it is on the host.
    pub(crate) from: PathBuf,
    /// Where it is seen.
    pub(crate) to: PathBuf,
    /// What may be done with it.
    pub(crate) access: Access,
}

/// What may be done with what is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Access {
    /// Reading.
    ReadOnly,
    /// Writing too.
    ReadWrite,
    /// It is a device.
    Device,
}

impl Bind {
    pub(crate) fn read_only(from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        Self { from: from.into(), to: to.into(), access: Access::ReadOnly }
    }

    pub(crate) fn read_write(from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        Self { from: from.into(), to: to.into(), access: Access::ReadWrite }
    }

    pub(crate) fn device(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { from: path.clone(), to: path, access: Access::Device }
    }
}

/// The command with the numbers of the files in it.
pub(super) fn with_numbers(command: &[String], numbers: &[i32]) -> Vec<String> {
    let fill = |word: &String| {
        let named = numbers.iter().enumerate();
        named.fold(word.clone(), |word, (at, number)| word.replace(&format!("{{fd{at}}}"), &number.to_string()))
    };
    command.iter().map(fill).collect()
}

#[cfg(test)]
mod tests {
    use super::with_numbers;

    #[test]
    fn files_are_named_by_their_numbers() {
        let command = ["qemu", "socket,fd={fd0},x", "tap,fd={fd1}"].map(str::to_owned);
        assert_eq!(with_numbers(&command, &[5, 71]), ["qemu", "socket,fd=5,x", "tap,fd=71"]);
    }
}
