//! Further programs in a container, and containers that see each other's.

use monopod_agent_client::Code;
use monopod_agent_proto::v1;

use crate::support::{ended, exec, finish, guest, guest_of, lines, program, read_until, shell, start, within};

#[tokio::test]
async fn vm_further_programs_run_as_the_container_does() {
    let guest = guest().await;
    let client = &guest.client;
    let mut request = shell("main", "exec sleep 1000");
    request.user = Some(v1::User { image_user: "app".to_owned(), ..v1::User::default() });
    request.environment = vec![v1::EnvironmentVariable { name: "COLOUR".to_owned(), value: "blue".to_owned() }];
    request.working_directory = "/srv/app".to_owned();
    start(client, request).await;

    let script = "id -u; pwd; echo $COLOUR; ulimit -n; grep -E 'CapBnd|Seccomp:' /proc/self/status; \
                  cat /proc/self/oom_score_adj /proc/self/cgroup; ps -o pid,comm | head -n 2 | tail -n 1; exit 5";
    let done = exec(client, program("main", &["sh", "-c", script]), None).await;
    let expected = "1000\n/srv/app\nblue\n1024\nCapBnd:\t00000000a80425fb\nSeccomp:\t2\n900\n0::/\n    1 sleep\n";
    assert_eq!((done.output.as_str(), done.exit.code), (expected, 5));

    let reading = v1::ExecStart { stdin: true, ..program("main", &["cat"]) };
    let text = "some text\n".repeat(10_000);
    let done = exec(client, reading, Some(&text)).await;
    assert!(done.output == text && done.exit.code == 0, "{} bytes, {:?}", done.output.len(), done.exit);
    let killed = exec(client, program("main", &["sh", "-c", "kill -9 $$"]), None).await;
    assert_eq!(killed.exit.code, 137);
    let missing = exec(client, program("main", &["nope"]), None).await;
    let message = "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nope\": executable \
                   file not found in $PATH: unknown";
    assert_eq!(missing.exit.start_error, message);
    let slow = v1::ExecStart { timeout_nanoseconds: 300_000_000, ..program("main", &["sleep", "1000"]) };
    let done = exec(client, slow, None).await;
    assert_eq!((done.exit.code, done.exit.timed_out), (137, true));
    // What a program leaves behind does not keep its call open.
    let done = exec(client, program("main", &["sh", "-c", "sleep 1000 & echo left"]), None).await;
    assert_eq!((done.output.as_str(), done.exit.code), ("left\n", 0));
}

#[tokio::test]
async fn vm_a_further_program_may_have_a_terminal() {
    let guest = guest().await;
    let client = &guest.client;
    start(client, shell("main", "exec sleep 1000")).await;
    let size = Some(v1::TerminalSize { columns: 100, rows: 40 });
    let wanted = v1::ExecStart {
        tty: true,
        stdin: true,
        size,
        ..program("main", &["sh", "-c", "tty; stty size; echo $TERM; read x; stty size; echo got $x"])
    };
    let mut process = within(client.exec(wanted)).await.unwrap();
    assert_eq!(read_until(&mut process.output, "xterm\r\n").await, "/dev/pts/0\r\n40 100\r\nxterm\r\n");
    process.input.resize(v1::TerminalSize { columns: 80, rows: 24 }).await.unwrap();
    process.input.write(b"word\n").await.unwrap();
    let done = finish(&mut process.output).await;
    assert_eq!((done.output.as_str(), done.exit.code), ("word\r\n24 80\r\ngot word\r\n", 0));
}

#[tokio::test]
async fn vm_only_what_runs_takes_further_programs() {
    let guest = guest().await;
    let client = &guest.client;
    within(client.create_container(shell("main", "true"))).await.unwrap();
    let refused = within(client.exec(program("main", &["true"]))).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::FailedPrecondition));
    assert!(refused.to_string().contains("container is in CONTAINER_CREATED state"), "{refused}");
    within(client.start_container("main")).await.unwrap();
    ended(client, "main").await;
    let refused = within(client.exec(program("main", &["true"]))).await.unwrap_err();
    assert!(refused.to_string().contains("container is in CONTAINER_EXITED state"), "{refused}");
    let unknown = within(client.exec(program("other", &["true"]))).await.unwrap_err();
    assert_eq!(unknown.code(), Some(Code::NotFound));
}

#[tokio::test]
async fn vm_containers_share_processes_when_the_pod_says_so() {
    let guest = guest_of(|pod| pod.share_process_namespace = true).await;
    let client = &guest.client;
    start(client, shell("one", "exec sleep 1000")).await;
    start(client, shell("left", "sleep 2000 & exit 0")).await;
    ended(client, "left").await;
    let script = "ps -o pid,user,args | tail -n +2 | cut -c1-28; ls /proc/1/root 2>&1 | head -n 1";
    let got = lines(client, shell("two", script)).await;
    assert!(got[0].ends_with("/pause"), "{got:?}");
    assert!(got.iter().any(|line| line.ends_with("sleep 1000")), "{got:?}");
    assert!(!got.iter().any(|line| line.ends_with("sleep 2000")), "what a container leaves behind ends: {got:?}");
    assert!(got.last().unwrap().ends_with("Permission denied"), "{got:?}");
    assert_eq!(ended(client, "two").await.exit_code, 0);
}

#[tokio::test]
async fn vm_a_container_may_join_the_processes_of_another() {
    let guest = guest().await;
    let client = &guest.client;
    start(client, shell("main", "exec sleep 1000")).await;
    let mut request = shell("debugger", "ps -o pid,comm; cat /proc/1/comm");
    request.target_container = "main".to_owned();
    assert_eq!(lines(client, request).await.last().unwrap(), "sleep");
    ended(client, "debugger").await;
    let mut request = shell("late", "true");
    request.target_container = "debugger".to_owned();
    let refused = within(client.create_container(request)).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::FailedPrecondition));
}
