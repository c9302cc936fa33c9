//! Host name and domain of a Pod (kubelet, `GeneratePodHostNameAndDomain` and `GetNodenameForKernel`).

use k8s_openapi::api::core::v1::Pod;

use super::context::{name, namespace, spec};
use super::error::SandboxError;

/// What the host name is cut to; the kernel has room for one more.
const MAX_HOSTNAME: usize = 63;
/// What the kernel has room for.
const MAX_FQDN: usize = 64;
const MAX_LABEL: usize = 63;
const MAX_SUBDOMAIN: usize = 253;
const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
     '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// What a Pod is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostname {
    /// The short name, for /etc/hosts.
    pub short: String,
    /// The domain, such as `web.shop.svc.cluster.local`, where the Pod has one.
    pub domain: Option<String>,
    /// What the kernel is told, and programs see.
    pub kernel: String,
}

/// Decides what a Pod is called in a cluster of that domain.
///
/// # Errors
/// A name in the Pod is no DNS name, or the full name that it asks for is too long.
pub fn hostname(pod: &Pod, cluster_domain: &str) -> Result<Hostname, SandboxError> {
    let spec = spec(pod);
    if let Some(hostname) = &spec.hostname_override {
        check("HostnameOverride", hostname, Form::Subdomain)?;
        let short = truncated(pod, hostname)?;
        return Ok(Hostname { kernel: short.clone(), short, domain: None });
    }
    let stated = spec.hostname.as_deref().filter(|hostname| !hostname.is_empty());
    if let Some(hostname) = stated {
        check("Hostname", hostname, Form::Label)?;
    }
    let short = truncated(pod, stated.unwrap_or_else(|| name(pod)))?;
    let subdomain = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty());
    if let Some(subdomain) = subdomain {
        check("Subdomain", subdomain, Form::Label)?;
    }
    let domain = subdomain.map(|subdomain| format!("{subdomain}.{}.svc.{cluster_domain}", namespace(pod)));
    let kernel = match &domain {
        Some(domain) if spec.set_hostname_as_fqdn == Some(true) => fqdn(&short, domain)?,
        Some(_) | None => short.clone(),
    };
    Ok(Hostname { short, domain, kernel })
}

fn fqdn(short: &str, domain: &str) -> Result<String, SandboxError> {
    let fqdn = format!("{short}.{domain}");
    if fqdn.len() > MAX_FQDN { Err(SandboxError::FqdnTooLong { fqdn }) } else { Ok(fqdn) }
}

/// Cut to what the kernel can hold, without the `-` and `.` that a cut may leave at the end.
fn truncated(pod: &Pod, hostname: &str) -> Result<String, SandboxError> {
    let Some(cut) = hostname.get(..MAX_HOSTNAME).filter(|_| hostname.len() > MAX_HOSTNAME) else {
        return Ok(hostname.to_owned());
    };
    let cut = cut.trim_end_matches(['-', '.']);
    if cut.is_empty() {
        return Err(SandboxError::NothingLeft { pod: name(pod).to_owned(), hostname: hostname.to_owned() });
    }
    Ok(cut.to_owned())
}

#[derive(Clone, Copy)]
enum Form {
    Label,
    Subdomain,
}

fn check(field: &'static str, value: &str, form: Form) -> Result<(), SandboxError> {
    let (valid, form, rule) = match form {
        Form::Label => (value.len() <= MAX_LABEL && is_label(value), "label", LABEL_RULE),
        Form::Subdomain => {
            (value.len() <= MAX_SUBDOMAIN && value.split('.').all(is_label), "subdomain", SUBDOMAIN_RULE)
        }
    };
    if valid { Ok(()) } else { Err(SandboxError::NotADnsName { field, value: value.to_owned(), form, rule }) }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}
