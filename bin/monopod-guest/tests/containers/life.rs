//! From creation to removal.

use monopod_agent_client::Code;
use monopod_agent_proto::v1;
use v1::container_state::Phase;

use crate::support::{ended, guest, log, shell, start, state, within};

#[tokio::test]
async fn vm_a_container_runs_and_all_there_is_to_know_of_it_arrives() {
    let guest = guest().await;
    let client = &guest.client;
    let script = "echo out; echo err >&2; echo -n reason > /dev/termination-log; exit 3";
    within(client.create_container(shell("job", script))).await.unwrap();
    assert_eq!(state(client, "job", Phase::Created).await.started_at, 0);
    let twice = within(client.create_container(shell("job", script))).await.unwrap_err();
    assert_eq!(twice.code(), Some(Code::AlreadyExists));
    within(client.start_container("job")).await.unwrap();
    let end = ended(client, "job").await;
    assert_eq!((end.exit_code, end.signal, end.oom_killed), (3, 0, false), "{end:?}");
    assert_eq!(end.termination_message, b"reason");
    assert!(end.created_at <= end.started_at && end.started_at <= end.finished_at, "{end:?}");
    let entries = log(client, "job").await;
    let mut texts: Vec<_> = entries.iter().map(|entry| (entry.stream(), entry.text.clone())).collect();
    texts.sort();
    assert_eq!(texts, [(v1::OutputStream::Stdout, b"out".to_vec()), (v1::OutputStream::Stderr, b"err".to_vec())]);
    assert!(entries[0].time < entries[1].time && entries.iter().all(|entry| !entry.partial));
    let again = within(client.start_container("job")).await.unwrap_err();
    assert_eq!(again.code(), Some(Code::FailedPrecondition));

    within(client.remove_container("job")).await.unwrap();
    within(client.remove_container("job")).await.unwrap();
    start(client, shell("job", "true")).await;
    assert_eq!(ended(client, "job").await.exit_code, 0);
}

#[tokio::test]
async fn vm_signals_end_containers_and_the_state_tells_which() {
    let guest = guest().await;
    let client = &guest.client;
    let signal =
        |id: &str, signal, all_processes| v1::SignalContainerRequest { id: id.to_owned(), signal, all_processes };
    start(client, shell("polite", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")).await;
    let mut reader = within(client.read_logs("polite", 0)).await.unwrap();
    assert_eq!(within(reader.next()).await.unwrap().unwrap().text, b"ready");
    within(client.signal_container(signal("polite", 15, false))).await.unwrap();
    assert_eq!(ended(client, "polite").await.exit_code, 7);

    start(client, shell("deaf", "sleep 1000 & sleep 1000")).await;
    let busy = within(client.remove_container("deaf")).await.unwrap_err();
    assert_eq!(busy.code(), Some(Code::FailedPrecondition));
    within(client.signal_container(signal("deaf", 9, true))).await.unwrap();
    let end = ended(client, "deaf").await;
    assert_eq!((end.exit_code, end.signal, end.oom_killed), (137, 9, false), "{end:?}");
    within(client.signal_container(signal("deaf", 9, true))).await.unwrap();

    let unknown = within(client.signal_container(signal("nobody", 9, false))).await.unwrap_err();
    assert_eq!(unknown.code(), Some(Code::NotFound));
    within(client.create_container(shell("never", "true"))).await.unwrap();
    within(client.remove_container("never")).await.unwrap();
}

#[tokio::test]
async fn vm_what_cannot_be_run_is_told_in_known_words() {
    let guest = guest().await;
    let client = &guest.client;
    let prefix = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create \
                  failed: unable to start container process: error during container init: ";
    let run = |id: &'static str, program: &'static str| async move {
        let request = v1::CreateContainerRequest { args: vec![program.to_owned()], ..shell(id, "") };
        start(client, request).await;
        ended(client, id).await
    };
    let end = run("missing", "nope").await;
    assert_eq!(end.exit_code, 128);
    assert_eq!(end.start_error, format!("{prefix}exec: \"nope\": executable file not found in $PATH: unknown"));
    let end = run("absolute", "/nope").await;
    assert_eq!(end.start_error, format!("{prefix}exec: \"/nope\": stat /nope: no such file or directory: unknown"));
    let end = run("plain", "/etc/passwd").await;
    assert_eq!(end.start_error, format!("{prefix}exec: \"/etc/passwd\": permission denied: unknown"));
    // What only the kernel can tell is told where the program would have written.
    let end = run("garbage", "/bin/garbage").await;
    assert_eq!((end.exit_code, end.start_error.as_str()), (255, ""));
    assert_eq!(log(client, "garbage").await[0].text, b"exec /bin/garbage: exec format error");
    for id in ["missing", "absolute", "plain", "garbage"] {
        within(client.remove_container(id)).await.unwrap();
    }

    let user = v1::User { image_user: "nobody".to_owned(), ..v1::User::default() };
    let request = v1::CreateContainerRequest { user: Some(user), ..shell("user", "") };
    let error = within(client.create_container(request)).await.unwrap_err();
    assert!(error.to_string().contains("no users found"), "{error}");
    let request = v1::CreateContainerRequest { image_serial: "none".to_owned(), ..shell("image", "") };
    let error = within(client.create_container(request)).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NotFound), "{error}");
    start(client, shell("user", "true")).await;
    assert_eq!(ended(client, "user").await.exit_code, 0, "a refused id can be used again");
}

#[tokio::test]
async fn vm_out_of_memory_is_told_apart_from_a_kill() {
    let guest = guest().await;
    let client = &guest.client;
    let mut request = shell("greedy", "dd if=/dev/zero of=/dev/null bs=100M count=1; echo survived");
    request.resources = Some(v1::Resources { memory_limit: 24 << 20, ..v1::Resources::default() });
    start(client, request).await;
    let end = ended(client, "greedy").await;
    assert_eq!((end.exit_code, end.signal, end.oom_killed), (137, 9, true), "{end:?}");
}

#[tokio::test]
async fn vm_a_host_that_hangs_up_hurts_no_container() {
    let guest = guest().await;
    let client = &guest.client;
    let script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; read x; echo $x";
    start(client, v1::CreateContainerRequest { stdin: true, ..shell("main", script) }).await;
    let mut after = 0;
    let mut lines = 0;
    for round in 0..5 {
        let mut reader = within(client.read_logs("main", after)).await.unwrap();
        while lines < 2000 * (round + 1) {
            let entry = within(reader.next()).await.unwrap().unwrap();
            assert_eq!(entry.text, lines.to_string().as_bytes(), "no line is lost and none comes twice");
            after = entry.time;
            lines += 1;
            reader.acknowledge(after);
        }
        client.disconnect().await;
        within(client.reconnect()).await.unwrap();
    }
    assert_eq!(state(client, "main", Phase::Running).await.finished_at, 0);
    let attach = v1::AttachStart { id: "main".to_owned(), stdin: true, ..v1::AttachStart::default() };
    let process = within(client.attach(attach)).await.unwrap();
    process.input.write(b"still here\n").await.unwrap();
    let mut reader = within(client.read_logs("main", after)).await.unwrap();
    let mut last = Vec::new();
    while let Some(entry) = within(reader.next()).await.unwrap() {
        reader.acknowledge(entry.time);
        last = entry.text;
    }
    assert_eq!(last, b"still here");
}

#[tokio::test]
async fn vm_many_containers_leave_nothing_behind() {
    const COUNT: u32 = 40;
    let guest = guest().await;
    let client = &guest.client;
    let mut warnings = within(client.watch_agent_log()).await.unwrap();
    let mut before = 0;
    let begin = std::time::Instant::now();
    for number in 0..COUNT {
        let id = format!("job-{number}");
        start(client, shell(&id, "sleep 1000 & echo done")).await;
        assert_eq!(ended(client, &id).await.exit_code, 0);
        assert_eq!(log(client, &id).await.len(), 1);
        within(client.remove_container(&id)).await.unwrap();
        if number == 10 {
            before = within(client.stats(false)).await.unwrap().agent_memory;
        }
    }
    println!("{} ms for each container", begin.elapsed().as_millis() / u128::from(COUNT));
    let stats = within(client.stats(true)).await.unwrap();
    println!("the agent holds {} KiB, {} KiB before", stats.agent_memory >> 10, before >> 10);
    assert!(stats.containers.is_empty());
    assert!(stats.agent_memory < before + (1 << 20), "the agent grows: {before} to {}", stats.agent_memory);
    // Whatever could not be tidied up would have been told.
    while let Ok(entry) = tokio::time::timeout(std::time::Duration::from_secs(1), warnings.next()).await {
        let entry = entry.unwrap().unwrap();
        assert!(!["WARN", "ERROR"].contains(&entry.level.as_str()), "{entry:?}");
        println!("{}", entry.message);
    }
}

#[tokio::test]
async fn vm_statistics_are_of_each_container() {
    let guest = guest().await;
    let client = &guest.client;
    start(
        client,
        shell("busy", "dd if=/dev/zero of=/file bs=1M count=3 2>/dev/null; i=0; while :; do i=$((i+1)); done"),
    )
    .await;
    start(client, shell("idle", "sleep 1000")).await;
    let (busy, idle) = loop {
        let stats = within(client.stats(true)).await.unwrap();
        let of = |name: &str| stats.containers.iter().find(|one| one.name == name).cloned().unwrap();
        let (busy, idle) = (of("busy"), of("idle"));
        if busy.usage.unwrap().cpu_nanoseconds > 1_000_000_000 {
            break (busy, idle);
        }
    };
    let (usage, root) = (busy.usage.unwrap(), busy.root.unwrap());
    assert!(usage.memory_usage > 0 && usage.memory_rss > 0 && usage.processes >= 1, "{usage:?}");
    assert!(root.used >= 3 << 20 && root.capacity > root.used, "{root:?}");
    assert!(idle.usage.unwrap().cpu_nanoseconds < 1_000_000_000, "{idle:?}");
}
