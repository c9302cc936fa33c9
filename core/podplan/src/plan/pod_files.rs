//! What makes a guest this Pod's own: identity, kernel parameters, /etc/hosts and /etc/resolv.conf.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;
use monopod_agent_proto::v1::{PersonalizeRequest, PodFiles};

use super::context::{PodContext, spec};
use super::dns::resolution;
use super::error::SandboxError;
use super::hostname::{Hostname, hostname};

/// The Pod-wide files, and what a person should know about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFilesPlan {
    /// The files.
    pub files: PodFiles,
    /// Warnings, each an event of the Pod.
    pub notes: Vec<Note>,
}

/// A warning about a Pod: the reason and text of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Reason of the event.
    pub reason: &'static str,
    /// Text of the event.
    pub message: String,
}

/// The same at the top of every hosts file; `fe00` is what the kubelet writes.
const HOSTS_HEAD: &str = "# Kubernetes-managed hosts file.\n\
    127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    fe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\n\
    fe00::2\tip6-allrouters\n";

/// /etc/hosts and /etc/resolv.conf of the Pod.
///
/// # Errors
/// The Pod cannot be given its host name.
pub fn pod_files(context: &PodContext<'_>) -> Result<PodFilesPlan, SandboxError> {
    let name = hostname(context.pod, context.settings.dns.cluster_domain())?;
    let (resolution, notes) = resolution(context.pod, &context.settings.dns);
    let files = PodFiles { hosts: hosts(context, &name), resolv_conf: resolution.render() };
    Ok(PodFilesPlan { files, notes })
}

/// What the guest is told of the Pod before anything runs. Entropy, clock, machine id, network and scratch disk are
/// the caller's to fill in.
///
/// # Errors
/// The Pod cannot be given its host name.
pub fn personalize(context: &PodContext<'_>) -> Result<PersonalizeRequest, SandboxError> {
    let name = hostname(context.pod, context.settings.dns.cluster_domain())?;
    let spec = spec(context.pod);
    let mut sysctls: std::collections::HashMap<String, String> =
        context.settings.sysctls.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let own = spec.security_context.iter().flat_map(|security| security.sysctls.iter().flatten());
    sysctls.extend(own.map(|sysctl| (dotted(&sysctl.name), sysctl.value.clone())));
    Ok(PersonalizeRequest {
        pod_uid: context.pod.metadata.uid.clone().unwrap_or_default(),
        hostname: name.kernel,
        files: Some(pod_files(context)?.files),
        sysctls,
        share_process_namespace: spec.share_process_namespace == Some(true),
        ..PersonalizeRequest::default()
    })
}

/// A kernel parameter's name with dots, as the kubelet reads it: where a slash comes first, slashes part the name and
/// dots belong to it.
fn dotted(name: &str) -> String {
    let first = name.find(['.', '/']).map(|at| &name[at..=at]);
    if first != Some("/") {
        return name.to_owned();
    }
    name.chars()
        .map(|character| match character {
            '/' => '.',
            '.' => '/',
            other => other,
        })
        .collect()
}

fn hosts(context: &PodContext<'_>, name: &Hostname) -> String {
    let mut text = HOSTS_HEAD.to_owned();
    for address in &context.facts.pod_ips {
        let written = match &name.domain {
            Some(domain) => writeln!(text, "{address}\t{short}.{domain}\t{short}", short = name.short),
            None => writeln!(text, "{address}\t{}", name.short),
        };
        written.expect("a string takes all that is written");
    }
    text.push_str(&aliases(context.pod));
    text
}

fn aliases(pod: &Pod) -> String {
    let aliases = spec(pod).host_aliases.as_deref().unwrap_or_default();
    if aliases.is_empty() {
        return String::new();
    }
    let lines = aliases.iter().map(|alias| {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        format!("{}\t{}\n", alias.ip, names.join("\t"))
    });
    std::iter::once("\n# Entries added by HostAliases.\n".to_owned()).chain(lines).collect()
}
