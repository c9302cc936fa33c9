//! What a probe or hook comes down to: ports by number, the Pod's address filled in, headers complete.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::action::{Handler, HttpRequest};
use super::time::seconds;
use crate::plan::expand_references;

/// Kubernetes version that our requests name.
const VERSION: &str = "1.37";

/// What a probe does.
///
/// # Errors
/// With the kubelet's message when it cannot be done as written.
pub(super) fn of_probe(probe: &Probe, container: &Container, pod_ip: &str) -> Result<Handler, String> {
    if let Some(exec) = &probe.exec {
        return Ok(Handler::Exec { command: expanded(exec, container) });
    }
    if let Some(get) = &probe.http_get {
        return http(get, container, pod_ip, "probe");
    }
    if let Some(tcp) = &probe.tcp_socket {
        return self::tcp(tcp, container, pod_ip);
    }
    match &probe.grpc {
        Some(grpc) => self::grpc(grpc, pod_ip),
        None => Err(format!("missing probe handler for {}", container.name)),
    }
}

/// What a hook does.
///
/// # Errors
/// With the kubelet's message when it cannot be done as written.
pub(super) fn of_hook(hook: &LifecycleHandler, container: &Container, pod_ip: &str) -> Result<Handler, String> {
    if let Some(exec) = &hook.exec {
        return Ok(Handler::Exec { command: exec.command.clone().unwrap_or_default() });
    }
    if let Some(get) = &hook.http_get {
        return http(get, container, pod_ip, "lifecycle");
    }
    match &hook.sleep {
        Some(sleep) => Ok(Handler::Sleep { duration: seconds(sleep.seconds) }),
        None => Err("invalid handler: a hook runs a program, asks by HTTP or sleeps".to_owned()),
    }
}

/// A probe's command, with references to those variables of the container whose values stand in the Pod.
fn expanded(exec: &ExecAction, container: &Container) -> Vec<String> {
    let values: BTreeMap<&str, &str> = container
        .env
        .iter()
        .flatten()
        .map(|variable| (variable.name.as_str(), variable.value.as_deref().unwrap_or_default()))
        .collect();
    let value = |name: &str| values.get(name).map(|value| (*value).to_owned());
    exec.command.iter().flatten().map(|word| expand_references(word, value)).collect()
}

fn http(get: &HTTPGetAction, container: &Container, pod_ip: &str, purpose: &str) -> Result<Handler, String> {
    let path = get.path.as_deref().unwrap_or_default();
    let path = path.split_once('#').map_or(path, |(path, _)| path);
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(Handler::Http(HttpRequest {
        is_https: get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        host: host(get.host.as_ref(), pod_ip),
        port: port(&get.port, container)?,
        path: format!("{slash}{path}"),
        headers: headers(get, purpose),
    }))
}

/// The Pod's headers and those that the kubelet adds. An empty `Accept` takes the header away.
fn headers(get: &HTTPGetAction, purpose: &str) -> Vec<(String, String)> {
    let written = get.http_headers.iter().flatten();
    let mut headers: Vec<(String, String)> =
        written.map(|header| (header.name.clone(), header.value.clone())).collect();
    let has =
        |headers: &[(String, String)], name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    if !has(&headers, "User-Agent") {
        headers.push(("User-Agent".to_owned(), format!("kube-{purpose}/{VERSION}")));
    }
    if has(&headers, "Accept") {
        headers.retain(|(name, value)| !(name.eq_ignore_ascii_case("Accept") && value.is_empty()));
    } else {
        headers.push(("Accept".to_owned(), "*/*".to_owned()));
    }
    headers
}

fn tcp(tcp: &TCPSocketAction, container: &Container, pod_ip: &str) -> Result<Handler, String> {
    Ok(Handler::Tcp { host: host(tcp.host.as_ref(), pod_ip), port: port(&tcp.port, container)? })
}

fn grpc(grpc: &GRPCAction, pod_ip: &str) -> Result<Handler, String> {
    let service = grpc.service.clone().unwrap_or_default();
    Ok(Handler::Grpc { host: pod_ip.to_owned(), port: number(grpc.port)?, service })
}

fn host(named: Option<&String>, pod_ip: &str) -> String {
    named.filter(|host| !host.is_empty()).cloned().unwrap_or_else(|| pod_ip.to_owned())
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    match port {
        IntOrString::Int(port) => number(*port),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let found = ports.find(|port| port.name.as_ref() == Some(name));
            number(found.ok_or_else(|| format!("port {name:?} not found"))?.container_port)
        }
    }
}

fn number(port: i32) -> Result<u16, String> {
    u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(|| format!("invalid port number: {port}"))
}
