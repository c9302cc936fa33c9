//! `monopod explain` as a user runs it: the program, its output and its exit codes.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The folder of the workspace, so that paths in the output are those that a user types there.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn explain(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monopod"));
    command.current_dir(workspace()).arg("explain").args(arguments).env_remove("CLICOLOR_FORCE");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(arguments: &[&str], input: &str) -> Value {
    let output = explain(&[arguments, &["-o", "json"]].concat(), input);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)))
}

/// Compares with a file of tests/golden; `UPDATE_GOLDEN=1` writes it anew.
fn check_golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{} differs; run with UPDATE_GOLDEN=1 if it should", path.display());
}

const PROFILE: &str = "apiVersion: monopod.dev/v1\nkind: FargateProfile\nmetadata: {name: all}\nspec: {selectors: [{namespace: '*'}]}\n---\n";

fn pod(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n---\n")
}

#[test]
fn the_examples_are_explained_in_text_json_and_yaml() {
    for (name, file) in [("shop", "examples/shop.yaml"), ("refused", "examples/refused.yaml")] {
        for output in ["text", "json", "yaml"] {
            let found = explain(&["-f", file, "--profiles", "examples/profiles.yaml", "-o", output], "");
            check_golden(&format!("{name}.{output}"), &stdout(&found));
            assert_eq!(stderr(&found), "", "{name} {output}");
        }
    }
}

#[test]
fn the_readme_shows_what_the_program_prints() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    for name in ["shop.text", "refused.text"] {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let printed = std::fs::read_to_string(golden).unwrap();
        let shown = printed.split("\n\n").next().unwrap();
        assert!(readme.contains(shown), "README.md does not show the first block of {name}:\n{shown}");
    }
}

#[test]
fn json_has_the_documented_fields_and_no_others() {
    let document =
        json(&["-f", "-"], &(PROFILE.to_owned() + &pod("web", "{hostPID: true, containers: [{name: web}]}")));
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let pod = &document["pods"][0];
    assert_eq!(keys(&document), "pods warnings");
    let expected = "exact kind message name namespace profile profiles reason role size supported violations waste";
    assert_eq!(keys(pod), expected);
    assert_eq!(keys(&pod["violations"][0]), "advice field message reason writtenAt");
    assert_eq!(keys(&pod["size"]), "capacityProvisioned ephemeralGiB memoryMiB mode vcpu");
    assert_eq!(keys(&pod["exact"]), "memoryMiB milliCpu");
    assert_eq!(keys(&pod["waste"]), "cpuPercent memoryGiB memoryPercent vcpu");
    assert_eq!(keys(&pod["profiles"][0]), "answer name takes");
}

#[test]
fn limits_become_missing_requests_and_host_network_invents_no_host_port() {
    let limits = "{containers: [{name: web, resources: {limits: {cpu: '1', memory: 4Gi}}}]}";
    let host = "{hostNetwork: true, containers: [{name: web, ports: [{containerPort: 80}]}]}";
    let document = json(&["-f", "-"], &[PROFILE, &pod("limits", limits), &pod("host", host)].concat());
    assert_eq!(document["pods"][0]["size"]["capacityProvisioned"], "1vCPU 5GB");
    assert_eq!(document["pods"][1]["message"], "Pod not supported on Fargate: fields not supported: HostNetwork");
}

#[test]
fn claims_volumes_and_service_accounts_of_the_input_are_used() {
    let spec = "{serviceAccountName: robot, containers: [{name: web}], volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]}";
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: robot, namespace: shop, annotations: {eks.amazonaws.com/role-arn: 'arn:aws:iam::1:role/robot'}}\n---\n";
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: shop}\nspec: {accessModes: [ReadWriteMany], storageClassName: efs, resources: {requests: {storage: 5Gi}}}\n---\n";
    let volume = "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: pv}\nspec: {accessModes: [ReadWriteMany], storageClassName: efs, capacity: {storage: 5Gi}, csi: {driver: efs.csi.aws.com, volumeHandle: fs-1}}\n---\n";
    let alone = json(&["-f", "-"], &[PROFILE, &pod("web", spec)].concat());
    let message = "Pod not supported on Fargate: volumes not supported: data not supported because: persistentvolumeclaim \"data\" not found";
    assert_eq!(alone["pods"][0]["message"], message);
    assert_eq!(alone["pods"][0]["role"], Value::Null);
    let unbound = json(&["-f", "-"], &[PROFILE, &pod("web", spec), claim].concat());
    let message = "Pod not supported on Fargate: volumes not supported: data not supported because: PVC data not bound";
    assert_eq!(unbound["pods"][0]["message"], message);
    let all = json(&["-f", "-"], &[PROFILE, &pod("web", spec), claim, volume, account].concat());
    assert_eq!(
        (&all["pods"][0]["supported"], &all["pods"][0]["role"]),
        (&true.into(), &"arn:aws:iam::1:role/robot".into())
    );
}

#[test]
fn the_exit_code_is_0_1_or_2() {
    let runs = pod("web", "{containers: [{name: web}]}");
    let refused = pod("web", "{hostPID: true, containers: [{name: web}]}");
    let rows = [
        ("all run", PROFILE.to_owned() + &runs, 0),
        ("unsupported", PROFILE.to_owned() + &refused, 1),
        ("no profile takes it", runs.clone(), 1),
        ("a field of ours that does not exist", PROFILE.replace("selectors:", "selector:") + &runs, 2),
        ("no Pod", PROFILE.to_owned(), 2),
        ("no YAML", "{".to_owned(), 2),
    ];
    for (name, input, code) in rows {
        let output = explain(&["-f", "-"], &input);
        assert_eq!(output.status.code(), Some(code), "{name}: {}", stderr(&output));
    }
}

#[test]
fn bad_input_is_told_with_file_line_document_and_field() {
    let memory =
        |amount| pod("web", &format!("{{containers: [{{name: web, resources: {{requests: {{memory: {amount}}}}}}}]}}"));
    let rows = [
        (
            memory("-5"),
            "<stdin>:9:64: document 2: spec.containers[0].resources.requests[memory]: \"-5\" cannot be used: a resource cannot be negative",
        ),
        (
            memory("5Gb"),
            "<stdin>:9:64: document 2: spec.containers[0].resources.requests[memory]: \"5Gb\" cannot be used: quantity has the unknown suffix",
        ),
        (pod("web", "{containers: {}}"), "<stdin>:9:20: document 2: spec.containers: "),
    ];
    for (input, expected) in rows {
        let output = explain(&["-f", "-"], &(PROFILE.to_owned() + &input));
        let expected = format!("error: {expected}");
        assert!(stderr(&output).starts_with(&expected), "{}\nshould start with\n{expected}", stderr(&output));
        assert_eq!((output.status.code(), output.stdout), (Some(2), Vec::new()));
    }
}

#[test]
fn odd_input_is_explained_with_warnings_and_notes_on_standard_error() {
    let service = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web}\n";
    let input = PROFILE.to_owned() + &pod("web", "{containers: [{name: web, image: web:1, imag: x}]}") + service;
    let output = explain(&["-f", "-"], &input);
    let expected = "note: 1 object of a kind that plays no part: networking.k8s.io/v1 Ingress\nwarning: <stdin>:9:53: document 2: unknown field \"spec.containers[0].imag\"\n";
    assert_eq!((stderr(&output).as_str(), output.status.code()), (expected, Some(0)));
}

#[test]
fn colour_is_for_terminals_and_can_be_forced_and_forbidden() {
    let input = PROFILE.to_owned() + &pod("web", "{containers: [{name: web}]}");
    let coloured = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_monopod"));
        command.args(["explain", "-f", "-"]).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        let command = command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        stdout(&child.wait_with_output().unwrap()).contains('\x1b')
    };
    assert!(!coloured(&[]), "a pipe is no terminal");
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let input = PROFILE.to_owned() + &pod("web", "{containers: [{name: web, image: web:1}]}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_monopod"));
    command.args(["explain", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}
