//! Name resolution of a Pod (kubelet, `dns.Configurer`; containerd writes the file).
//!
//! The Pod's policy picks the base, its `dnsConfig` is added to that, and what is beyond the limits is left out with a
//! warning.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig, PodDNSConfigOption};

use super::context::{described, namespace, spec};
use super::pod_files::Note;

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;
const MAX_SEARCH: usize = 253;

/// Name resolution on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSettings {
    /// The cluster's own; none outside a cluster, where `ClusterFirst` is taken as `Default`.
    pub cluster: Option<ClusterDns>,
    /// What the host itself uses, for Pods that do not use the cluster's. Its name servers have to answer the Pod, so
    /// none of them is on the loopback.
    pub host: Option<ResolvConf>,
}

/// Name resolution of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterDns {
    /// Addresses of the DNS service.
    pub servers: Vec<IpAddr>,
    /// Such as `cluster.local`.
    pub domain: String,
}

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Addresses of name servers.
    pub nameservers: Vec<String>,
    /// Domains to search.
    pub searches: Vec<String>,
    /// Options such as `ndots:5`.
    pub options: Vec<String>,
}

impl DnsSettings {
    /// Domain of the cluster; `cluster.local` outside one, so that a Pod with a subdomain has a full name there too.
    pub fn cluster_domain(&self) -> &str {
        self.cluster.as_ref().map_or("cluster.local", |cluster| cluster.domain.as_str())
    }
}

impl ResolvConf {
    /// Reads a resolv.conf as the kubelet does: name servers add up, the last search line counts, of an option said
    /// twice the last counts. What it does not know it passes over.
    pub fn parse(text: &str) -> Self {
        let mut read = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => read.nameservers.extend(words.next().map(str::to_owned)),
                Some("search") => {
                    let domains = words.filter(|&domain| domain != ".");
                    read.searches =
                        domains.map(|domain| domain.strip_suffix('.').unwrap_or(domain).to_owned()).collect();
                }
                Some("options") => words.for_each(|option| set_option(&mut read.options, option.to_owned())),
                Some(_) | None => {}
            }
        }
        read
    }

    /// Without name servers on the host's loopback, which a Pod cannot reach.
    #[must_use]
    pub fn without_loopback(mut self) -> Self {
        let is_loopback = |text: &String| text.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        self.nameservers.retain(|server| !is_loopback(server));
        self
    }

    /// The file's contents, as containerd writes them.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        let mut line = |keyword: &str, words: &str| {
            writeln!(text, "{keyword} {words}").expect("a string takes all that is written");
        };
        if !self.searches.is_empty() {
            line("search", &self.searches.join(" "));
        }
        for server in &self.nameservers {
            line("nameserver", server);
        }
        if !self.options.is_empty() {
            line("options", &self.options.join(" "));
        }
        text
    }
}

/// Name resolution of the Pod, and what a person should know about it.
pub(super) fn resolution(pod: &Pod, settings: &DnsSettings) -> (ResolvConf, Vec<Note>) {
    let mut notes = Vec::new();
    let mut config = base(pod, settings, &mut notes);
    if let Some(own) = &spec(pod).dns_config {
        add(&mut config, own);
    }
    limit_nameservers(&mut config.nameservers, &mut notes);
    limit_searches(&mut config.searches, &mut notes);
    (config, notes)
}

fn base(pod: &Pod, settings: &DnsSettings, notes: &mut Vec<Note>) -> ResolvConf {
    match spec(pod).dns_policy.as_deref() {
        Some("None") => ResolvConf::default(),
        Some("Default") => of_host(settings),
        // What the API server would not accept is taken as its default, as by the kubelet.
        Some(_) | None => of_cluster(pod, settings, notes),
    }
}

fn of_host(settings: &DnsSettings) -> ResolvConf {
    settings.host.clone().unwrap_or_else(|| ResolvConf {
        nameservers: vec!["127.0.0.1".to_owned()],
        searches: vec![".".to_owned()],
        options: Vec::new(),
    })
}

fn of_cluster(pod: &Pod, settings: &DnsSettings, notes: &mut Vec<Note>) -> ResolvConf {
    let Some(cluster) = &settings.cluster else { return of_host(settings) };
    if cluster.servers.is_empty() {
        let pod = described(pod);
        let text = format!(
            "pod: {pod:?}. kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" \
             policy. Falling back to \"Default\" policy."
        );
        notes.push(Note { reason: "MissingClusterDNS", message: text });
        return of_host(settings);
    }
    let domain = &cluster.domain;
    let mut searches = Vec::new();
    if !domain.is_empty() {
        searches = vec![format!("{}.svc.{domain}", namespace(pod)), format!("svc.{domain}"), domain.clone()];
    }
    searches.extend(settings.host.iter().flat_map(|host| host.searches.iter().cloned()));
    ResolvConf {
        nameservers: cluster.servers.iter().map(ToString::to_string).collect(),
        searches: once_each(searches),
        options: vec!["ndots:5".to_owned()],
    }
}

fn add(config: &mut ResolvConf, own: &PodDNSConfig) {
    config.nameservers.extend(own.nameservers.iter().flatten().cloned());
    config.nameservers = once_each(std::mem::take(&mut config.nameservers));
    config.searches.extend(own.searches.iter().flatten().cloned());
    config.searches = once_each(std::mem::take(&mut config.searches));
    for PodDNSConfigOption { name, value } in own.options.iter().flatten() {
        let name = name.clone().unwrap_or_default();
        let option = match value.as_deref() {
            Some("") | None => name,
            Some(value) => format!("{name}:{value}"),
        };
        set_option(&mut config.options, option);
    }
}

/// Puts an option in the place of the one of the same name, or at the end.
fn set_option(options: &mut Vec<String>, option: String) {
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    match options.iter_mut().find(|present| name(present) == name(&option)) {
        Some(present) => *present = option,
        None => options.push(option),
    }
}

fn once_each(texts: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    texts.into_iter().filter(|text| seen.insert(text.clone())).collect()
}

fn limit_nameservers(servers: &mut Vec<String>, notes: &mut Vec<Note>) {
    if servers.len() > MAX_NAMESERVERS {
        servers.truncate(MAX_NAMESERVERS);
        let applied = servers.join(" ");
        let message = format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {applied}"
        );
        notes.push(Note { reason: "DNSConfigForming", message });
    }
}

fn limit_searches(searches: &mut Vec<String>, notes: &mut Vec<Note>) {
    let before = searches.len();
    searches.truncate(MAX_SEARCHES);
    searches.retain(|search| search.len() <= MAX_SEARCH);
    while searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
        searches.pop();
    }
    if searches.len() < before {
        let applied = searches.join(" ");
        let message = format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {applied}"
        );
        notes.push(Note { reason: "DNSConfigForming", message });
    }
}
