//! What everybody tries first.

use crate::machine::{Machine, script_pod};

#[test]
fn vm_output_and_exit_code_of_a_pod_are_those_of_the_command() {
    let machine = Machine::start();
    let answer = machine.run(&script_pod("hello", "echo hello; echo sorry >&2; exit 3", ""));
    assert_eq!((answer.stdout.as_str(), answer.code), ("hello\nsorry\n", 3), "{}", answer.stderr);
    let pod = machine.inspect("hello");
    assert_eq!(pod["pod"]["status"]["phase"], "Failed");
    assert_eq!(pod["pod"]["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    assert_eq!(machine.ok(&["logs", "hello"]), "hello\nsorry\n");
    machine.ok(&["rm", "hello"]);
    assert_eq!(machine.ok(&["ps", "--quiet"]), "");
}

#[test]
fn vm_a_pod_can_be_looked_at_and_entered_and_leaves_nothing_behind() {
    let machine = Machine::start();
    machine.detached(
        &script_pod("web", "echo up; mkdir /www; echo page > /www/index.html; exec httpd -f -p 8080 -h /www", ""),
        &["-p", "18080:8080"],
    );
    assert!(machine.ok(&["ps"]).contains("web"), "{}", machine.ok(&["ps"]));
    let ours = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_ne!(machine.exec("web", &["uname", "-r"]), ours);
    let fetched = machine.wait_for("the page arrives", |machine| {
        let output =
            machine.inside("curl").args(["-sS", "--max-time", "10", "http://127.0.0.1:18080/"]).output().unwrap();
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    });
    assert_eq!(fetched, b"page\n");
    let answer = machine.monopod_with(&["exec", "-i", "web", "--", "sh", "-c", "cat; exit 7"], b"through");
    assert_eq!((answer.stdout.as_str(), answer.code), ("through", 7), "{}", answer.stderr);
    machine.ok(&["cp", "web:/www/index.html", machine.root().join("copy").to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(machine.root().join("copy")).unwrap(), "page\n");
    machine.ok(&["cp", machine.root().join("copy").to_str().unwrap(), "web:/tmp"]);
    assert_eq!(machine.exec("web", &["cat", "/tmp/copy"]), "page\n");
    assert!(machine.ok(&["stats", "--no-stream"]).contains("web"));
    assert_eq!(machine.ok(&["logs", "web"]), "up\n");
    assert_eq!(machine.vm_processes().len(), 1);
    machine.ok(&["stop", "web"]);
    machine.ok(&["rm", "web"]);
    assert!(machine.vm_processes().is_empty());
}

#[test]
fn vm_what_a_cluster_would_refuse_is_refused_with_the_same_words() {
    let machine = Machine::start();
    let pod = script_pod("root", "true", "hostNetwork: true");
    let answer = machine.run(&pod);
    assert_eq!(answer.code, 1, "{}", answer.stderr);
    assert!(
        answer.stderr.contains("Pod not supported on Fargate: fields not supported: HostNetwork"),
        "{}",
        answer.stderr
    );
    assert!(answer.stderr.contains("remove hostNetwork"), "{}", answer.stderr);
    assert_eq!(machine.ok(&["ps", "--quiet"]), "");
}
