//! The cgroup of one container: what it uses, who is in it, whether the kernel killed for memory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use monopod_agent_proto::v1::CpuMemory;
use nix::unistd::Pid;

/// Where the kernel shows cgroups.
const MOUNT_POINT: &str = "/sys/fs/cgroup";
/// The one that holds all containers.
pub(crate) const POD: &str = "/pod";

/// How long the processes of a cgroup may take to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries.
const INTERVAL: Duration = Duration::from_millis(5);

/// A cgroup by its path below the mount point.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    folder: PathBuf,
}

impl Cgroup {
    /// That of a container.
    pub(crate) fn of_container(key: &str) -> Self {
        Self::at(Path::new(MOUNT_POINT), &Path::new(POD).join(key))
    }

    /// That of all containers together.
    pub(crate) fn of_pod() -> Self {
        Self::at(Path::new(MOUNT_POINT), Path::new(POD))
    }

    fn at(mount_point: &Path, path: &Path) -> Self {
        let folder = mount_point.join(path.strip_prefix("/").unwrap_or(path));
        Self { path: path.to_owned(), folder }
    }

    /// As the runtime is told.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the kernel shows it.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that a process joins by.
    pub(crate) fn members_file(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Kills everything in it.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match fs::write(self.folder.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The processes in it.
    pub(crate) fn members(&self) -> Vec<Pid> {
        let text = fs::read_to_string(self.members_file()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect()
    }

    /// Whether the kernel has killed one of its processes for memory.
    pub(crate) fn was_out_of_memory(&self) -> bool {
        value(&self.read("memory.events"), "oom_kill") > 0
    }

    /// What it uses now, and has used.
    pub(crate) fn usage(&self) -> CpuMemory {
        let (cpu, memory) = (self.read("cpu.stat"), self.read("memory.stat"));
        let current = self.read("memory.current").trim().parse().unwrap_or(0);
        CpuMemory {
            cpu_nanoseconds: value(&cpu, "usage_usec") * 1000,
            memory_usage: current,
            memory_working_set: current.saturating_sub(value(&memory, "inactive_file")),
            memory_rss: value(&memory, "anon"),
            page_faults: value(&memory, "pgfault"),
            major_page_faults: value(&memory, "pgmajfault"),
            processes: self.read("pids.current").trim().parse().unwrap_or(0),
            throttled_nanoseconds: value(&cpu, "throttled_usec") * 1000,
        }
    }

    /// Removes it; what is gone already is fine. Blocks while what was killed in it is still ending, but not for long.
    pub(crate) fn remove(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match fs::remove_dir(&self.folder) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    thread::sleep(INTERVAL);
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, cgroup = %self.path.display(), "failed to remove a cgroup");
                    return;
                }
                Ok(()) | Err(_) => return,
            }
        }
    }

    /// Empty where the kernel keeps no such account.
    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_default()
    }
}

/// The number after a name in a file of such lines; 0 without one.
fn value(text: &str, name: &str) -> u64 {
    let number = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::Cgroup;

    #[test]
    fn usage_is_read_as_the_kernel_writes_it() {
        let root = std::env::temp_dir().join(format!("monopod-cgroup-{}", std::process::id()));
        let cgroup = Cgroup::at(&root, Path::new("/pod/c1"));
        assert_eq!(cgroup.usage().memory_usage, 0, "a cgroup that is gone uses nothing");
        fs::create_dir_all(&cgroup.folder).unwrap();
        let write = |file: &str, text: &str| fs::write(cgroup.folder.join(file), text).unwrap();
        write("cpu.stat", "usage_usec 1500\nuser_usec 1\nsystem_usec 2\nthrottled_usec 7\n");
        write("memory.current", "5000\n");
        write("memory.stat", "anon 1000\nfile 3000\ninactive_file 2000\nanon_thp 9\npgfault 11\npgmajfault 3\n");
        write("pids.current", "4\n");
        write("memory.events", "low 0\noom 1\noom_kill 0\noom_group_kill 0\n");
        let usage = cgroup.usage();
        assert_eq!((usage.cpu_nanoseconds, usage.throttled_nanoseconds), (1_500_000, 7_000));
        assert_eq!((usage.memory_usage, usage.memory_working_set, usage.memory_rss), (5000, 3000, 1000));
        assert_eq!((usage.page_faults, usage.major_page_faults, usage.processes), (11, 3, 4));
        assert!(!cgroup.was_out_of_memory());
        write("memory.events", "oom 1\noom_kill 2\n");
        assert!(cgroup.was_out_of_memory());
        fs::remove_dir_all(root).unwrap();
    }
}
