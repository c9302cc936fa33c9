//! A guest with a small image, and requests that read as sentences.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use monopod_agent_client::{AgentClient, ProcessEvent};
use monopod_agent_proto::v1;
use v1::container_state::Phase;

use crate::harness::{self, Guest};

/// How long anything may take on a busy machine without KVM.
const PATIENCE: Duration = Duration::from_secs(60);
/// Programs of the image; all are one file.
const PROGRAMS: [&str; 41] = [
    "awk", "cat", "chmod", "cut", "date", "dd", "df", "echo", "env", "false", "grep", "head", "hostname", "id", "kill",
    "ln", "ls", "mkdir", "mknod", "mount", "nproc", "printf", "ps", "pwd", "readlink", "rm", "seq", "sh", "sleep",
    "sort", "stat", "stty", "tail", "test", "touch", "tr", "true", "tty", "unshare", "wc", "yes",
];
/// What containers have by default.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A guest of one Pod with the image "busybox".
pub(crate) async fn guest() -> Guest {
    guest_of(|_| ()).await
}

/// The same, with something else about the Pod.
pub(crate) async fn guest_of(change: impl FnOnce(&mut v1::PersonalizeRequest)) -> Guest {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let image = harness::image_disk(&folder.path().join("image"), &tree(folder.path()), "busybox");
    let scratch = harness::scratch_disk(&folder.path().join("scratch"), 256);
    let guest = Guest::boot(&[scratch, image]).await;
    // QEMU has the files open; nobody else needs their names.
    drop(folder);
    let mut personality = harness::personality();
    change(&mut personality);
    if let Err(error) = guest.client.personalize(personality).await {
        panic!("the guest was not personalized: {error:?}; its console:\n{}", guest.console());
    }
    guest
}

fn tree(folder: &Path) -> std::path::PathBuf {
    let root = folder.join("root");
    for name in ["bin", "etc", "tmp", "srv/app"] {
        fs::create_dir_all(root.join(name)).expect("a folder can be made");
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("a mode can be set");
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox is installed");
    for program in PROGRAMS {
        symlink("busybox", root.join("bin").join(program)).expect("a link can be made");
    }
    let write = |name: &str, text: &str| fs::write(root.join(name), text).expect("a file can be written");
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/srv/app:/bin/sh\n");
    write("etc/group", "root:x:0:\napp:x:1001:\nextra:x:50:app\n");
    write("bin/garbage", "\x7fELF is not enough");
    fs::set_permissions(root.join("bin/garbage"), fs::Permissions::from_mode(0o755)).expect("a mode can be set");
    root
}

/// A container that runs a shell script, with what the host gives a container by default.
pub(crate) fn shell(id: &str, script: &str) -> v1::CreateContainerRequest {
    v1::CreateContainerRequest {
        id: id.to_owned(),
        name: id.to_owned(),
        image_serial: "busybox".to_owned(),
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        security: Some(v1::Security {
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
            seccomp: v1::Seccomp::RuntimeDefault.into(),
            masked_paths: ["/proc/kcore", "/proc/keys", "/sys/firmware"].map(str::to_owned).to_vec(),
            read_only_paths: ["/proc/sys", "/proc/bus"].map(str::to_owned).to_vec(),
            ..v1::Security::default()
        }),
        resources: Some(v1::Resources { cpu_request_millis: 100, oom_score_adj: 900, ..v1::Resources::default() }),
        rlimits: vec![v1::Rlimit { name: "RLIMIT_NOFILE".to_owned(), soft: 1024, hard: 65_535 }],
        termination_message_path: "/dev/termination-log".to_owned(),
        ..v1::CreateContainerRequest::default()
    }
}

/// Makes and starts a container.
pub(crate) async fn start(client: &AgentClient, request: v1::CreateContainerRequest) {
    let id = request.id.clone();
    within(client.create_container(request)).await.expect("the container can be made");
    within(client.start_container(&id)).await.expect("the container can be started");
}

/// The state of a container once it is in that phase.
pub(crate) async fn state(client: &AgentClient, id: &str, phase: Phase) -> v1::ContainerState {
    let mut states = within(client.watch_containers()).await.expect("containers can be watched");
    loop {
        let state = within(states.next()).await.expect("the watch goes on").expect("the watch has no end");
        if state.id == id && state.phase() == phase {
            return state;
        }
        assert!(state.id != id || state.phase() != Phase::Exited, "{id} has ended: {state:?}");
    }
}

pub(crate) async fn ended(client: &AgentClient, id: &str) -> v1::ContainerState {
    state(client, id, Phase::Exited).await
}

/// All of a container's log, as it is once the container has ended.
pub(crate) async fn log(client: &AgentClient, id: &str) -> Vec<v1::LogEntry> {
    let mut reader = within(client.read_logs(id, 0)).await.expect("the log can be read");
    let mut entries = Vec::new();
    while let Some(entry) = within(reader.next()).await.expect("the log goes on") {
        reader.acknowledge(entry.time);
        entries.push(entry);
    }
    entries
}

/// The lines of a container that has run to its end.
pub(crate) async fn lines(client: &AgentClient, request: v1::CreateContainerRequest) -> Vec<String> {
    let id = request.id.clone();
    start(client, request).await;
    let entries = log(client, &id).await;
    entries.into_iter().map(|entry| String::from_utf8(entry.text).expect("the log is text")).collect()
}

/// What a further program did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) output: String,
    pub(crate) exit: v1::Exit,
}

/// Runs a further program to its end.
pub(crate) async fn exec(client: &AgentClient, start: v1::ExecStart, input: Option<&str>) -> Done {
    let mut process = within(client.exec(start)).await.expect("a program can be run");
    if let Some(text) = input {
        process.input.write(text.as_bytes()).await.expect("the program reads");
        process.input.end().await.expect("the program reads");
    }
    finish(&mut process.output).await
}

/// Waits until a program has written something.
pub(crate) async fn read_until(output: &mut monopod_agent_client::ProcessOutput, awaited: &str) -> String {
    let mut text = Vec::new();
    loop {
        let so_far = String::from_utf8_lossy(&text).into_owned();
        if so_far.contains(awaited) {
            return so_far;
        }
        match within(output.next()).await.expect("the program goes on").expect("the end comes last") {
            ProcessEvent::Started => {}
            ProcessEvent::Output { data, .. } => text.extend_from_slice(&data),
            ProcessEvent::Exited(exit) => panic!("ended with {exit:?} after {so_far:?}"),
        }
    }
}

/// Waits for the end of a program.
pub(crate) async fn finish(output: &mut monopod_agent_client::ProcessOutput) -> Done {
    let mut text = Vec::new();
    loop {
        match within(output.next()).await.expect("the program goes on").expect("the end comes last") {
            ProcessEvent::Started => {}
            ProcessEvent::Output { data, .. } => text.extend_from_slice(&data),
            ProcessEvent::Exited(exit) => {
                return Done { output: String::from_utf8_lossy(&text).into_owned(), exit };
            }
        }
    }
}

pub(crate) fn program(id: &str, args: &[&str]) -> v1::ExecStart {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    v1::ExecStart { id: id.to_owned(), args, ..v1::ExecStart::default() }
}

/// The same, but not for ever.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("the guest answers in time")
}
