//! What probes and hooks come down to.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Probe};

use super::super::handler::{of_hook, of_probe};
use super::super::*;

const CONTAINER: &str = r#"
name: web
ports:
- {name: http, containerPort: 8080}
env:
- {name: WHO, value: me}
- {name: FROM, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
"#;

fn container() -> Container {
    serde_saphyr::from_str(CONTAINER).unwrap()
}

fn probe(yaml: &str) -> Result<Handler, String> {
    let probe: Probe = serde_saphyr::from_str(yaml).unwrap();
    of_probe(&probe, &container(), "fd00::2")
}

fn hook(yaml: &str) -> Result<Handler, String> {
    let hook: LifecycleHandler = serde_saphyr::from_str(yaml).unwrap();
    of_hook(&hook, &container(), "10.0.1.2")
}

fn headers(handler: Handler) -> Vec<(String, String)> {
    let Handler::Http(request) = handler else { panic!("{handler:?} asks by HTTP") };
    request.headers
}

#[test]
fn ports_are_found_by_number_or_name() {
    for (yaml, port) in [
        ("tcpSocket: {port: 80}", Ok(80)),
        ("tcpSocket: {port: http}", Ok(8080)),
        ("tcpSocket: {port: https}", Err("port \"https\" not found".to_owned())),
        ("tcpSocket: {port: 0}", Err("invalid port number: 0".to_owned())),
        ("tcpSocket: {port: 65536}", Err("invalid port number: 65536".to_owned())),
        ("{}", Err("missing probe handler for web".to_owned())),
    ] {
        let expected = port.map(|port| Handler::Tcp { host: "fd00::2".to_owned(), port });
        assert_eq!(probe(yaml), expected, "{yaml}");
    }
}

#[test]
fn an_http_probe_has_the_kubelets_headers_unless_the_pod_has_its_own() {
    let plain = probe("httpGet: {port: 80, path: '/a?b=c#d'}").unwrap();
    let Handler::Http(request) = &plain else { panic!("{plain:?} asks by HTTP") };
    assert_eq!((request.is_https, request.host.as_str(), request.path.as_str()), (false, "fd00::2", "/a?b=c"));
    let expected = [("User-Agent", "kube-probe/1.37"), ("Accept", "*/*")];
    assert_eq!(headers(plain), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let own = "httpGet: {port: 80, host: other.example, scheme: HTTPS, httpHeaders: [{name: user-agent, value: me}, {name: Accept, value: ''}]}";
    assert_eq!(headers(probe(own).unwrap()), [("user-agent".to_owned(), "me".to_owned())]);
}

#[test]
fn a_probes_command_knows_the_variables_that_stand_in_the_pod() {
    let command = ["check", "me", "", "$(OTHER)", "$(WHO)"].map(str::to_owned).to_vec();
    let probe = probe("exec: {command: [check, $(WHO), $(FROM), $(OTHER), $$(WHO)]}");
    assert_eq!(probe, Ok(Handler::Exec { command }));
}

#[test]
fn a_hook_runs_asks_or_sleeps() {
    assert_eq!(hook("exec: {command: [a, $(WHO)]}"), Ok(Handler::Exec { command: vec!["a".into(), "$(WHO)".into()] }));
    assert_eq!(hook("sleep: {seconds: 3}"), Ok(Handler::Sleep { duration: Duration::from_secs(3) }));
    let asks = hook("httpGet: {port: http}").unwrap();
    assert_eq!(headers(asks)[0], ("User-Agent".to_owned(), "kube-lifecycle/1.37".to_owned()));
    assert!(hook("tcpSocket: {port: 80}").unwrap_err().starts_with("invalid handler"));
}
