//! What must not stay behind when a test is killed and cannot clean up after itself: network namespaces, microVMs, folders.
//!
//! A shell of its own process group waits for the end of the test's process, however that comes, and removes then what it
//! was told of and is still there. After a test that has cleaned up it finds nothing to do.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

/// Reads a kind and a name per line, and acts when there are no more.
const WATCH: &str = r#"
trap '' HUP INT TERM
spaces= groups= folders=
while read -r kind name; do
  case $kind in
    namespace) spaces="$spaces $name" ;;
    group) groups="$groups $name" ;;
    folder) folders="$folders $name" ;;
  esac
done
for space in $spaces; do
  for pid in $(ip netns pids "$space"); do kill -KILL "$pid"; done
done
for group in $groups; do
  for file in $(grep -l "/$group/" /proc/[0-9]*/cgroup); do file=${file#/proc/}; kill -KILL "${file%/cgroup}"; done
  tries=0
  for folder in /sys/fs/cgroup/"$group" /sys/fs/cgroup/*/"$group"; do
    while [ -d "$folder" ] && [ $tries -lt 100 ]; do
      find "$folder" -depth -type d -exec rmdir {} + || sleep 0.1
      tries=$((tries + 1))
    done
  done
done
for space in $spaces; do ip netns del "$space"; done
for folder in $folders; do rm -rf --one-file-system "$folder"; done
"#;

/// Something that a test makes.
#[derive(Clone, Copy, Debug)]
pub enum Remains<'a> {
    /// A named network namespace, with all programs in it.
    Namespace(&'a str),
    /// A control group by its name, with all programs in it and in those below.
    Group(&'a str),
    /// A folder.
    Folder(&'a Path),
}

/// The shell; it acts when this is dropped, or when the process that has it ends.
#[derive(Debug)]
pub struct Remover {
    shell: Child,
    told: ChildStdin,
}

impl Remover {
    /// Starts it.
    ///
    /// # Errors
    /// When no shell can be started.
    pub fn start() -> Result<Self> {
        let mut command = Command::new("sh");
        // In a group of its own, so that whoever kills the test's group does not kill it.
        command.args(["-c", WATCH]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = command.spawn().context("failed to start a shell")?;
        let told = shell.stdin.take().context("the shell reads what it is told")?;
        Ok(Self { shell, told })
    }

    /// Tells it of something.
    ///
    /// # Errors
    /// When it has ended.
    pub fn tell(&mut self, what: Remains<'_>) -> Result<()> {
        let line = match what {
            Remains::Namespace(name) => format!("namespace {name}\n"),
            Remains::Group(name) => format!("group {name}\n"),
            Remains::Folder(path) => format!("folder {}\n", path.display()),
        };
        self.told.write_all(line.as_bytes()).context("the shell that cleans up has ended")
    }

    /// Lets it act, and waits until it has.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn finish(self) -> Result<()> {
        let Self { mut shell, told } = self;
        drop(told);
        shell.wait().map(drop).context("failed to wait for the shell that cleans up")
    }
}

/// Sees to it that something is not there any more when this process has ended.
///
/// # Errors
/// When no shell can be started.
pub fn remove_at_end(what: Remains<'_>) -> Result<()> {
    static REMOVER: Mutex<Option<Remover>> = Mutex::new(None);
    let mut remover = REMOVER.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *remover {
        Some(remover) => remover.tell(what),
        none => none.insert(Remover::start()?).tell(what),
    }
}
