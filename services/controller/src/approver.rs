//! Approves the certificates of nodes, and only those that a host may have: a node's name says its address, and the
//! address must be in a block of the host that asks.
//!
//! | signer | asked for by | approved when |
//! |---|---|---|
//! | kube-apiserver-client-kubelet | `monopod:host:H` | the node's address is in a block of H |
//! | kubelet-serving | the node itself | the node's address is in a block of a host, and the names are that host's address |
//!
//! What is not approved here is left alone: others may approve it.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use ipnet::IpNet;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use monopod_api::{Host, Subnet, names};
use monopod_policy::record::address_of;
use monopod_watching::Retry;
use serde_json::json;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
const NODES: &str = "system:nodes";
const NODE_USER: &str = "system:node:";
/// Between attempts at what failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a request is not approved.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    #[error("it is not of a host or its node")]
    Foreign,
    #[error("the request cannot be read: {0}")]
    Malformed(String),
    #[error("the subject is not a node of {NODES}")]
    Subject,
    #[error("usages {0:?} are not those of its signer")]
    Usages(Vec<String>),
    #[error("node {0} is in no address block of the host that asks")]
    NotItsNode(String),
    #[error("the names are not the address of the node's host")]
    Names,
}

/// What a request asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    common_name: String,
    organizations: Vec<String>,
    addresses: Vec<IpAddr>,
    other_names: bool,
}

/// Approves until it is dropped.
pub(crate) async fn run(client: Client) {
    let requests = Api::<CertificateSigningRequest>::all(client.clone());
    let mut seen =
        watcher(requests.clone(), watcher::Config::default()).backoff(Retry::default()).applied_objects().boxed();
    while let Some(request) = seen.next().await {
        match request {
            Ok(request) if is_open(&request) => consider(&client, &requests, &request).await,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "certificate signing requests cannot be watched"
                );
            }
        }
    }
}

fn is_open(request: &CertificateSigningRequest) -> bool {
    let is_ours = matches!(&*request.spec.signer_name, CLIENT_SIGNER | SERVING_SIGNER);
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_ref());
    is_ours && conditions.is_none_or(Vec::is_empty)
}

async fn consider(client: &Client, requests: &Api<CertificateSigningRequest>, request: &CertificateSigningRequest) {
    let name = request.name_any();
    loop {
        let decided = async {
            // Read anew, not from a cache: a host that has just got its block may ask at once.
            let hosts = Api::<Host>::all(client.clone()).list(&ListParams::default()).await?;
            let subnets = Api::<Subnet>::all(client.clone()).list(&ListParams::default()).await?;
            match verdict(&request.spec, &hosts.items, &subnets.items) {
                Ok(()) => approve(requests, &name).await,
                Err(Denial::Foreign) => Ok(()),
                Err(denial) => {
                    tracing::warn!(request = name, %denial, user = request.spec.username, "a certificate is not approved");
                    Ok(())
                }
            }
        };
        match decided.await {
            Ok(()) => return,
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(error) => {
                tracing::warn!(
                    request = name,
                    error = &error as &dyn std::error::Error,
                    "a certificate is not approved yet"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn approve(requests: &Api<CertificateSigningRequest>, name: &str) -> Result<(), kube::Error> {
    let condition = CertificateSigningRequestCondition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: Some("MonopodNode".to_owned()),
        message: Some("the node's address is in a block of its host".to_owned()),
        ..CertificateSigningRequestCondition::default()
    };
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    requests.patch_approval(name, &PatchParams::default(), &patch).await.map(drop)
}

/// Whether a request may be approved.
fn verdict(spec: &CertificateSigningRequestSpec, hosts: &[Host], subnets: &[Subnet]) -> Result<(), Denial> {
    let user = spec.username.as_deref().unwrap_or_default();
    let is_in = |group: &str| spec.groups.iter().flatten().any(|one| one == group);
    let is_serving = spec.signer_name == SERVING_SIGNER;
    let asking = user.strip_prefix(names::HOST_USER_PREFIX).filter(|_| is_in(names::HOST_GROUP) && !is_serving);
    let is_node = is_serving && user.starts_with(NODE_USER) && is_in(NODES);
    if asking.is_none() && !is_node {
        return Err(Denial::Foreign);
    }
    let asked = read(&spec.request.0)?;
    let node = asked.common_name.strip_prefix(NODE_USER).ok_or(Denial::Subject)?;
    if asked.organizations != [NODES] {
        return Err(Denial::Subject);
    }
    let foreign = || Denial::NotItsNode(node.to_owned());
    let Some(address) = address_of(node) else {
        return Err(if is_serving { Denial::Foreign } else { foreign() });
    };
    let host = holder(subnets, address).ok_or_else(foreign)?;
    check_usages(spec, if is_serving { "server auth" } else { "client auth" })?;
    match asking {
        Some(asking) if host != asking => Err(foreign()),
        Some(_) => (asked.addresses.is_empty() && !asked.other_names).then_some(()).ok_or(Denial::Names),
        None if user != asked.common_name => Err(Denial::Subject),
        None => {
            let host = hosts.iter().find(|one| one.name_any() == host);
            let own = host
                .and_then(|host| host.status.as_ref())
                .and_then(|status| status.address.as_deref()?.parse::<IpAddr>().ok());
            let are_own = own.is_some_and(|own| asked.addresses == [own]) && !asked.other_names;
            are_own.then_some(()).ok_or(Denial::Names)
        }
    }
}

/// The host that holds an address. The Subnets say so, whose status hosts cannot write, and not the Hosts, whose status they
/// can.
fn holder(subnets: &[Subnet], address: IpAddr) -> Option<&str> {
    let blocks = subnets.iter().flat_map(|subnet| subnet.status.iter().flat_map(|status| &status.blocks));
    let has = |cidr: &str| cidr.parse::<IpNet>().is_ok_and(|block| block.contains(&address));
    blocks.into_iter().find(|block| has(&block.cidr)).map(|block| block.host.as_str())
}

fn check_usages(spec: &CertificateSigningRequestSpec, purpose: &str) -> Result<(), Denial> {
    let usages = spec.usages.clone().unwrap_or_default();
    let allowed = ["digital signature", "key encipherment", purpose];
    let is_right =
        usages.iter().any(|usage| usage == purpose) && usages.iter().all(|usage| allowed.contains(&&**usage));
    if is_right { Ok(()) } else { Err(Denial::Usages(usages)) }
}

fn read(pem: &[u8]) -> Result<Asked, Denial> {
    let malformed = |what: String| Denial::Malformed(what);
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|error| malformed(error.to_string()))?;
    let (_, request) =
        X509CertificationRequest::from_der(&pem.contents).map_err(|error| malformed(error.to_string()))?;
    let subject = &request.certification_request_info.subject;
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().unwrap_or_default().to_owned();
    let names: Vec<String> = subject.iter_common_name().map(text).collect();
    let [common_name] = &*names else { return Err(Denial::Subject) };
    let mut asked = Asked {
        common_name: common_name.clone(),
        organizations: subject.iter_organization().map(text).collect(),
        ..Asked::default()
    };
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(alternatives) = extension {
            for name in &alternatives.general_names {
                match address(name) {
                    Some(address) => asked.addresses.push(address),
                    None => asked.other_names = true,
                }
            }
        }
    }
    Ok(asked)
}

fn address(name: &GeneralName<'_>) -> Option<IpAddr> {
    let GeneralName::IPAddress(bytes) = name else { return None };
    match bytes.len() {
        4 => <[u8; 4]>::try_from(*bytes).ok().map(Into::into),
        16 => <[u8; 16]>::try_from(*bytes).ok().map(Into::into),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
    use monopod_api::{HandedOutBlock, Host, HostSpec, HostStatus, Subnet, SubnetSpec, SubnetStatus};
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::{CLIENT_SIGNER, Denial, SERVING_SIGNER, verdict};

    const NODE: &str = "fargate-ip-10-0-0-5.local.compute.internal";
    const USER: &str = "system:node:fargate-ip-10-0-0-5.local.compute.internal";

    fn hosts() -> Vec<Host> {
        let host = |name: &str, address: &str| {
            let mut host = Host::new(name, HostSpec::default());
            host.status = Some(HostStatus { address: Some(address.to_owned()), ..HostStatus::default() });
            host
        };
        vec![host("a", "192.0.2.1"), host("b", "192.0.2.2")]
    }

    fn subnets() -> Vec<Subnet> {
        let mut subnet = Subnet::new("s", SubnetSpec::default());
        let block = |host: &str, cidr: &str| HandedOutBlock { cidr: cidr.to_owned(), host: host.to_owned() };
        let blocks = vec![block("a", "10.0.0.0/28"), block("b", "10.0.1.0/28")];
        subnet.status = Some(SubnetStatus { blocks, ..SubnetStatus::default() });
        vec![subnet]
    }

    /// A request of a user in a group, for a subject and addresses.
    fn spec(signer: &str, user: &str, group: &str, subject: &str, addresses: &[&str]) -> CertificateSigningRequestSpec {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, subject);
        params.subject_alt_names = addresses.iter().map(|one| SanType::IpAddress(one.parse().unwrap())).collect();
        let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let purpose = if signer == SERVING_SIGNER { "server auth" } else { "client auth" };
        CertificateSigningRequestSpec {
            request: ByteString(request.into_bytes()),
            signer_name: signer.to_owned(),
            username: Some(user.to_owned()),
            groups: Some(vec![group.to_owned()]),
            usages: Some(vec!["digital signature".to_owned(), purpose.to_owned()]),
            ..CertificateSigningRequestSpec::default()
        }
    }

    #[test]
    fn a_host_gets_certificates_of_its_own_nodes_only() {
        let ask = |user: &str, group: &str| verdict(&spec(CLIENT_SIGNER, user, group, USER, &[]), &hosts(), &subnets());
        assert_eq!(ask("monopod:host:a", "monopod:hosts"), Ok(()));
        assert_eq!(ask("monopod:host:b", "monopod:hosts"), Err(Denial::NotItsNode(NODE.to_owned())));
        assert_eq!(ask("monopod:host:a", "system:authenticated"), Err(Denial::Foreign));
        let other = spec(CLIENT_SIGNER, "monopod:host:a", "monopod:hosts", "system:node:worker-1", &[]);
        assert_eq!(verdict(&other, &hosts(), &subnets()), Err(Denial::NotItsNode("worker-1".to_owned())));
        let admin = spec(CLIENT_SIGNER, "monopod:host:a", "monopod:hosts", "kubernetes-admin", &[]);
        assert_eq!(verdict(&admin, &hosts(), &subnets()), Err(Denial::Subject));
        let named = spec(CLIENT_SIGNER, "monopod:host:a", "monopod:hosts", USER, &["192.0.2.1"]);
        assert_eq!(verdict(&named, &hosts(), &subnets()), Err(Denial::Names));
    }

    #[test]
    fn a_node_gets_a_serving_certificate_for_the_address_of_its_host_only() {
        let ask = |user: &str, addresses: &[&str]| {
            verdict(&spec(SERVING_SIGNER, user, "system:nodes", USER, addresses), &hosts(), &subnets())
        };
        assert_eq!(ask(USER, &["192.0.2.1"]), Ok(()));
        assert_eq!(ask(USER, &["192.0.2.2"]), Err(Denial::Names));
        assert_eq!(ask(USER, &["192.0.2.1", "10.96.0.1"]), Err(Denial::Names));
        assert_eq!(ask("system:node:other", &["192.0.2.1"]), Err(Denial::Subject));
        let plain = spec(SERVING_SIGNER, "system:node:worker", "system:nodes", "system:node:worker", &["192.0.2.1"]);
        assert_eq!(verdict(&plain, &hosts(), &subnets()), Err(Denial::Foreign));
    }

    #[test]
    fn usages_must_be_those_of_the_signer() {
        let mut spec = spec(CLIENT_SIGNER, "monopod:host:a", "monopod:hosts", USER, &[]);
        spec.usages = Some(vec!["client auth".to_owned(), "server auth".to_owned()]);
        assert!(matches!(verdict(&spec, &hosts(), &subnets()), Err(Denial::Usages(_))));
    }
}
