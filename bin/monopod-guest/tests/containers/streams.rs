//! Input and output of containers.

use monopod_agent_proto::{MAX_LOG_LINE, v1};

use crate::support::{ended, finish, guest, log, read_until, shell, start, within};

fn attach(id: &str) -> v1::AttachStart {
    v1::AttachStart { id: id.to_owned(), stdin: true, stdout: true, stderr: true }
}

#[tokio::test]
async fn vm_clients_give_input_and_see_output_from_then_on() {
    let guest = guest().await;
    let client = &guest.client;
    let request = v1::CreateContainerRequest { stdin: true, stdin_once: true, ..shell("echo", "cat; echo end") };
    within(client.create_container(request)).await.unwrap();
    let mut process = within(client.attach(attach("echo"))).await.unwrap();
    within(client.start_container("echo")).await.unwrap();
    process.input.write(b"one\ntwo\n").await.unwrap();
    process.input.end().await.unwrap();
    let done = finish(&mut process.output).await;
    assert_eq!((done.output.as_str(), done.exit.code), ("one\ntwo\nend\n", 0));
    let texts: Vec<_> = log(client, "echo").await.into_iter().map(|entry| entry.text).collect();
    assert_eq!(texts, [b"one".to_vec(), b"two".to_vec(), b"end".to_vec()], "the log has it too");
    assert!(within(client.attach(attach("echo"))).await.is_err());
}

#[tokio::test]
async fn vm_input_stays_open_unless_it_is_for_once() {
    let guest = guest().await;
    let client = &guest.client;
    let script = "while read line; do echo got $line; done; echo end";
    start(client, v1::CreateContainerRequest { stdin: true, ..shell("open", script) }).await;
    for word in ["first", "second"] {
        let mut process = within(client.attach(attach("open"))).await.unwrap();
        process.input.write(format!("{word}\n").as_bytes()).await.unwrap();
        process.input.end().await.unwrap();
        let event = within(process.output.next()).await.unwrap().unwrap();
        assert!(format!("{event:?}").contains(&format!("got {word}")), "{event:?}");
    }
    start(client, v1::CreateContainerRequest { stdin: true, stdin_once: true, ..shell("once", script) }).await;
    let process = within(client.attach(attach("once"))).await.unwrap();
    process.input.write(b"only\n").await.unwrap();
    drop(process);
    assert_eq!(ended(client, "once").await.exit_code, 0, "the client that leaves ends the input");
}

#[tokio::test]
async fn vm_a_container_may_have_a_terminal() {
    let guest = guest().await;
    let client = &guest.client;
    let script = "tty; test -c /dev/console && echo console; stty size; read line; stty size; echo got $line";
    let request = v1::CreateContainerRequest { tty: true, stdin: true, ..shell("tty", script) };
    within(client.create_container(request)).await.unwrap();
    let mut process = within(client.attach(attach("tty"))).await.unwrap();
    process.input.resize(v1::TerminalSize { columns: 90, rows: 30 }).await.unwrap();
    within(client.start_container("tty")).await.unwrap();
    assert_eq!(read_until(&mut process.output, "30 90\r\n").await, "/dev/pts/0\r\nconsole\r\n30 90\r\n");
    process.input.resize(v1::TerminalSize { columns: 91, rows: 31 }).await.unwrap();
    process.input.write(b"word\n").await.unwrap();
    let done = finish(&mut process.output).await;
    assert_eq!(done.output, "word\r\n31 91\r\ngot word\r\n");
    let entries = log(client, "tty").await;
    assert!(entries.iter().all(|entry| entry.stream() == v1::OutputStream::Stdout));
    assert_eq!(entries[0].text, b"/dev/pts/0\r", "a terminal ends its lines in its own way");
}

#[tokio::test]
async fn vm_a_full_log_holds_the_container_and_loses_nothing() {
    let guest = guest().await;
    let client = &guest.client;
    let script = "i=0; while [ $i -lt 40000 ]; do echo line $i of a log that is longer than its buffer; i=$((i+1)); done; \
                  head -c 40000 /dev/zero | tr '\\0' x; echo; echo -n rest";
    start(client, shell("loud", script)).await;
    let mut reader = within(client.read_logs("loud", 0)).await.unwrap();
    let mut entries: Vec<v1::LogEntry> = Vec::new();
    // Everything that is there without acknowledging anything; then nothing comes.
    while let Ok(next) = tokio::time::timeout(std::time::Duration::from_secs(3), reader.next()).await {
        entries.push(next.unwrap().expect("the container waits"));
    }
    let held: usize = entries.iter().map(|entry| entry.text.len()).sum();
    assert!(held < 1 << 20, "{held} bytes are kept");
    assert!(entries.len() < 40_000, "{} lines are kept", entries.len());
    // A host that comes back starts where it was, which tells that it has the rest.
    drop(reader);
    let last = entries.last().unwrap().time;
    let mut reader = within(client.read_logs("loud", last)).await.unwrap();
    while let Some(entry) = within(reader.next()).await.unwrap() {
        reader.acknowledge(entry.time);
        entries.push(entry);
    }
    assert_eq!(ended(client, "loud").await.exit_code, 0);
    for (number, entry) in entries[..40_000].iter().enumerate() {
        assert_eq!(entry.text, format!("line {number} of a log that is longer than its buffer").as_bytes());
    }
    assert!(entries.windows(2).all(|pair| pair[0].time < pair[1].time));
    let rest: Vec<_> = entries[40_000..].iter().map(|entry| (entry.text.len(), entry.partial)).collect();
    let cut = 40_000 - 2 * MAX_LOG_LINE;
    assert_eq!(rest, [(MAX_LOG_LINE, true), (MAX_LOG_LINE, true), (cut, false), (4, true)]);
}
