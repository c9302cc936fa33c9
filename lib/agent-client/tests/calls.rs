//! Calls and streams against a guest that keeps the protocol.

mod world;

use monopod_agent_client::v1::{
    AttachStart, CreateContainerRequest, ExecStart, OutputStream, SignalContainerRequest, TerminalSize,
    container_state::Phase,
};
use monopod_agent_client::{AgentClient, Code, Deadlines, ProcessEvent, SocketTransport, contract};
use monopod_testkit::guest::{ExecScript, FakeGuest, Script};
use monopod_testkit::wait::wait_until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use world::{connected, personal, pipe, start};

#[tokio::test]
async fn a_pods_life_goes_over_one_connection() {
    let (guest, client) = connected();
    guest.script("web", Script::runs().prints("hello").complains("oh").exits(3));
    assert!(!client.hello().await.unwrap().personalized);
    let early = client.start_container("web-0").await.unwrap_err();
    assert_eq!((early.reason(), early.code()), ("AgentRefused", Some(Code::FailedPrecondition)));

    client.personalize(personal()).await.unwrap();
    let mut states = client.watch_containers().await.unwrap();
    start(&client, "web-0", "web").await;
    let mut last = None;
    while last != Some(Phase::Exited) {
        let state = states.next().await.unwrap().expect("the watch goes on");
        assert_eq!((state.id.as_str(), state.name.as_str()), ("web-0", "web"));
        last = Some(state.phase());
    }
    assert_eq!(guest.container_states()[0].exit_code, 3);
    client.remove_container("web-0").await.unwrap();
    client.remove_container("web-0").await.unwrap();
    client.stats(true).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(guest.calls().iter().filter(|call| *call == "Hello").count(), 1);
}

#[tokio::test]
async fn logs_are_kept_until_they_are_acknowledged() {
    let (guest, client) = connected();
    client.personalize(personal()).await.unwrap();
    start(&client, "web-0", "web").await;
    for line in ["one", "two", "three"] {
        guest.print("web-0", line);
    }
    let mut logs = client.read_logs("web-0", 0).await.unwrap();
    let one = logs.next().await.unwrap().unwrap();
    let two = logs.next().await.unwrap().unwrap();
    assert_eq!((one.text.as_slice(), two.text.as_slice()), (b"one".as_slice(), b"two".as_slice()));
    assert_eq!(guest.kept_log_entries("web-0"), 3);
    logs.acknowledge(two.time);
    logs.acknowledge(one.time);
    wait_until("the guest forgets what was acknowledged", || guest.kept_log_entries("web-0") == 1).await;
    drop(logs);

    // A daemon that comes back goes on where it was.
    let mut logs = client.read_logs("web-0", two.time).await.unwrap();
    assert_eq!(logs.next().await.unwrap().unwrap().text, b"three");
    guest.end("web-0", 0);
    assert_eq!(logs.next().await.unwrap(), None);
}

#[tokio::test]
async fn an_exec_reads_writes_and_ends() {
    let (guest, client) = connected();
    client.personalize(personal()).await.unwrap();
    start(&client, "web-0", "web").await;
    let start = ExecStart { id: "web-0".to_owned(), args: vec!["cat".to_owned()], stdin: true, ..Default::default() };
    let mut process = client.exec(start.clone()).await.unwrap();
    let long = vec![b'x'; 300_000];
    let input = process.input.clone();
    let written = long.clone();
    let writer = tokio::spawn(async move {
        input.resize(TerminalSize { columns: 80, rows: 25 }).await.unwrap();
        input.write(&written).await.unwrap();
        input.end().await.unwrap();
    });
    let mut read = Vec::new();
    assert_eq!(process.output.next().await.unwrap(), Some(ProcessEvent::Started));
    let exit = loop {
        match process.output.next().await.unwrap().expect("the exit comes first") {
            ProcessEvent::Output { data, .. } => read.extend(data),
            ProcessEvent::Exited(exit) => break exit,
            ProcessEvent::Started => panic!("started twice"),
        }
    };
    writer.await.unwrap();
    assert_eq!((read, exit.code), ([b"cat\n".as_slice(), &long].concat(), 0));
    assert_eq!(process.output.next().await.unwrap(), None);

    let script = ExecScript { stderr: "no".to_owned(), code: 7, ..ExecScript::default() };
    guest.script_exec("check", script);
    let mut process = client.exec(ExecStart { args: vec!["check".to_owned()], ..start }).await.unwrap();
    let events = [process.output.next().await, process.output.next().await, process.output.next().await];
    let [_, output, exit] = events.map(|event| event.unwrap().unwrap());
    assert_eq!(output, ProcessEvent::Output { stream: OutputStream::Stderr, data: "no".into() });
    assert!(matches!(exit, ProcessEvent::Exited(exit) if exit.code == 7));
}

#[tokio::test]
async fn attaching_shows_what_comes_and_the_end() {
    let (guest, client) = connected();
    client.personalize(personal()).await.unwrap();
    start(&client, "web-0", "web").await;
    guest.print("web-0", "before");
    let attach = AttachStart { id: "web-0".to_owned(), stdin: true, stdout: true, stderr: true };
    let mut process = client.attach(attach).await.unwrap();
    guest.print("web-0", "after");
    let output = process.output.next().await.unwrap().unwrap();
    assert_eq!(output, ProcessEvent::Output { stream: OutputStream::Stdout, data: "after\n".into() });
    let signal = SignalContainerRequest { id: "web-0".to_owned(), signal: 15, all_processes: false };
    client.signal_container(signal).await.unwrap();
    assert!(matches!(process.output.next().await.unwrap(), Some(ProcessEvent::Exited(exit)) if exit.code == 143));
}

#[tokio::test]
async fn a_dialled_port_is_a_byte_stream_with_two_ends() {
    let (guest, client) = connected();
    client.personalize(personal()).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(client.dial(8080).await.unwrap());
    let sent: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let expected = sent.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    reader.read_to_end(&mut received).await.unwrap();
    writing.await.unwrap();
    assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
    guest.fail_next("Dial", Code::Unavailable, "connection refused");
    assert_eq!(client.dial(9).await.unwrap_err().code(), Some(Code::Unavailable));
}

#[tokio::test]
async fn a_refusal_carries_the_guests_words() {
    let (guest, client) = connected();
    client.personalize(personal()).await.unwrap();
    guest.fail_next("CreateContainer", Code::InvalidArgument, "user \u{1b}[1m not found");
    let error = client.create_container(CreateContainerRequest::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "guest agent refused CreateContainer: user  [1m not found (InvalidArgument)");
    assert_eq!(error.retry(), monopod_agent_client::Retry::Never);
}

#[tokio::test]
async fn a_request_over_the_limit_is_not_sent() {
    let (guest, client) = connected();
    client.personalize(personal()).await.unwrap();
    let request = CreateContainerRequest { args: vec!["x".repeat(17 << 20)], ..Default::default() };
    assert_eq!(client.create_container(request).await.unwrap_err().reason(), "AgentMessageTooLarge");
    assert!(!guest.calls().iter().any(|call| call.starts_with("CreateContainer")));
    client.stats(false).await.unwrap();
}

#[tokio::test]
async fn a_new_connection_replaces_the_old_one_with_all_that_ran_on_it() {
    let (_guest, client) = connected();
    client.personalize(personal()).await.unwrap();
    let mut states = client.watch_containers().await.unwrap();
    let again = client.reconnect().await.unwrap();
    assert!(again.personalized);
    assert_eq!(states.next().await.unwrap_err().reason(), "AgentUnreachable");
    client.stats(false).await.unwrap();
}

#[tokio::test]
async fn pipes_and_sockets_are_transports() {
    let (_, transport) = pipe(FakeGuest::new());
    contract::connections_follow_each_other(&transport).await;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let guest = FakeGuest::new();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            guest.serve(stream).await;
        }
    });
    contract::connections_follow_each_other(&SocketTransport::new(&path)).await;
    let client = AgentClient::new(SocketTransport::new(&path), Deadlines::default());
    client.hello().await.unwrap();
    serving.abort();
    let nowhere = AgentClient::new(SocketTransport::new(folder.path().join("none")), Deadlines::default());
    assert_eq!(nowhere.hello().await.unwrap_err().reason(), "AgentConnectFailed");
}
