//! The Host object of this machine, its heartbeat, and the address blocks that it is given.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, OwnerReference, Time};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use monopod_api::{Host, HostSpec, Subnet, Verdict, names};
use monopod_policy::record::{NodeName, default_domain};
use monopod_watching::Retry;
use serde_json::json;

use super::{ClusterError, ClusterSettings};

/// How long a heartbeat counts, in seconds; the kubelet's.
const LEASE_SECONDS: i32 = 40;
/// Between heartbeats; the kubelet's.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);
/// Between attempts to register.
const PAUSE: Duration = Duration::from_secs(2);

/// A block of addresses for Pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) subnet: String,
    pub(super) range: Ipv4Net,
}

/// Makes sure of the Host object, says what the machine has, and waits for address blocks.
pub(super) async fn register(client: &Client, settings: &ClusterSettings) -> Result<Vec<Block>, ClusterError> {
    let host = loop {
        match say(client, settings).await {
            Ok(host) => break host,
            Err(error) if error.is_refusal() => return Err(error),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "this host cannot be registered yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    beat(client, settings, &host).await?;
    if blocks(&host).is_empty() {
        tracing::info!(host = settings.host_name, "waiting for an address block of a Subnet");
    }
    let mut hosts = watch_host(client, settings);
    loop {
        match hosts.next().await {
            Some(Ok(host)) if !blocks(&host).is_empty() => return Ok(blocks(&host)),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the Host object cannot be watched")
            }
            None => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Ends when the blocks are others than these.
pub(super) async fn blocks_changed(client: &Client, settings: &ClusterSettings, known: &[Block]) -> ClusterError {
    let mut hosts = watch_host(client, settings);
    while let Some(host) = hosts.next().await {
        if let Ok(host) = host {
            let now = blocks(&host);
            if !now.is_empty() && now != known {
                return ClusterError::BlocksChanged;
            }
        }
    }
    std::future::pending().await
}

fn watch_host(
    client: &Client,
    settings: &ClusterSettings,
) -> futures_util::stream::BoxStream<'static, Result<Host, watcher::Error>> {
    let only_ours = watcher::Config::default().fields(&format!("metadata.name={}", settings.host_name));
    watcher(Api::all(client.clone()), only_ours).backoff(Retry::default()).applied_objects().into_stream().boxed()
}

/// Says what the machine has; makes the Host object where there is none.
async fn say(client: &Client, settings: &ClusterSettings) -> Result<Host, ClusterError> {
    let name = &settings.host_name;
    let hosts = Api::<Host>::all(client.clone());
    let found = hosts.get_opt(name).await.map_err(ClusterError::asking(format!("read Host {name}")))?;
    let host = match found {
        Some(host) => host,
        None => {
            let spec = HostSpec { zone: settings.zone.clone(), ..HostSpec::default() };
            let made = hosts.create(&PostParams::default(), &Host::new(name, spec)).await;
            made.map_err(ClusterError::asking(format!("make Host {name}")))?
        }
    };
    let facts = &settings.facts;
    // The address blocks are the controller's to write, so this is a patch of all the rest.
    let status = json!({"status": {
        "observedGeneration": host.metadata.generation,
        "address": settings.address,
        "capacity": facts.capacity,
        "accelerator": facts.accelerator,
        "guestKernel": facts.guest_kernel,
        "conditions": conditions(&host),
    }});
    let said = hosts.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await;
    said.map_err(ClusterError::asking(format!("write the status of Host {name}")))
}

/// The conditions of a Host that is ready; what others say of it stays.
fn conditions(host: &Host) -> Vec<Condition> {
    let known = || host.status.iter().flat_map(|status| &status.conditions);
    let ready = condition(host, "Ready", true, "HostReady", "the host daemon takes Pods");
    known().filter(|one| one.type_ != "Ready").cloned().chain([ready]).collect()
}

/// A condition of a Host, after those that it had before.
pub(super) fn condition(host: &Host, kind: &str, is_true: bool, reason: &str, message: &str) -> Condition {
    let before = host.status.as_ref().map(|status| &*status.conditions).unwrap_or_default();
    let verdict = Verdict { kind, is_true: Some(is_true), reason, message };
    verdict.after(before, host.metadata.generation, Time(Timestamp::now()))
}

fn blocks(host: &Host) -> Vec<Block> {
    let blocks = host.status.iter().flat_map(|status| &status.address_blocks);
    blocks
        .filter_map(|block| match block.cidr.parse() {
            Ok(IpNet::V4(range)) => Some(Block { subnet: block.subnet.clone(), range }),
            Ok(IpNet::V6(_)) | Err(_) => None,
        })
        .collect()
}

/// Names of the nodes that this machine may have, in the order in which the scheduler takes them.
pub(super) async fn node_names(client: &Client, settings: &ClusterSettings) -> Result<Vec<String>, ClusterError> {
    let name = &settings.host_name;
    let host = Api::<Host>::all(client.clone()).get(name).await;
    let host = host.map_err(ClusterError::asking(format!("read Host {name}")))?;
    let mut names = Vec::new();
    for block in blocks(&host) {
        let subnet = Api::<Subnet>::all(client.clone()).get(&block.subnet).await;
        let subnet = subnet.map_err(ClusterError::asking(format!("read Subnet {}", block.subnet)))?;
        let domain = subnet.spec.dns.domain.clone().unwrap_or_else(|| default_domain(&settings.region));
        for address in block.range.hosts() {
            names.push(NodeName::new(address.into(), &domain)?.as_str().to_owned());
        }
    }
    Ok(names)
}

/// Renews the heartbeat for ever.
pub(super) async fn keep(client: Client, settings: ClusterSettings) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    loop {
        ticks.tick().await;
        let host = Api::<Host>::all(client.clone()).get_opt(&settings.host_name).await;
        let beaten = match host {
            Ok(Some(host)) => match beat(&client, &settings, &host).await {
                // The controller had given us up.
                Ok(()) if !host.is_ready() => say(&client, &settings).await.map(drop),
                beaten => beaten,
            },
            // Somebody removed it while we run: it is made again.
            Ok(None) => say(&client, &settings).await.map(drop),
            Err(error) => Err(ClusterError::asking(format!("read Host {}", settings.host_name))(error)),
        };
        if let Err(error) = beaten {
            tracing::warn!(error = &error as &dyn std::error::Error, "the heartbeat of this host was not renewed");
        }
    }
}

async fn beat(client: &Client, settings: &ClusterSettings, host: &Host) -> Result<(), ClusterError> {
    let owner = OwnerReference {
        api_version: Host::api_version(&()).into_owned(),
        kind: Host::kind(&()).into_owned(),
        name: host.name_any(),
        uid: host.uid().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let leases = Api::<Lease>::namespaced(client.clone(), names::HEARTBEAT_NAMESPACE);
    renew(&leases, &settings.host_name, &settings.host_name, Some(owner)).await
}

/// Renews a Lease, and makes it where there is none.
pub(super) async fn renew(
    leases: &Api<Lease>,
    name: &str,
    holder: &str,
    owner: Option<OwnerReference>,
) -> Result<(), ClusterError> {
    let now = MicroTime(Timestamp::now());
    let renewal = json!({"spec": {"renewTime": now, "holderIdentity": holder}});
    match leases.patch(name, &PatchParams::default(), &Patch::Merge(renewal)).await {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(ClusterError::asking(format!("renew Lease {name}"))(error)),
    }
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    let made = leases.create(&PostParams::default(), &lease).await;
    made.map(drop).map_err(ClusterError::asking(format!("make Lease {name}")))
}
