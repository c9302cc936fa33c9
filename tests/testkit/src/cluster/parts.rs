//! The parts of a control plane and how each is started. All of them run in one network namespace of their own, where
//! their addresses are always the same.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::keys::{self, Authority, Files};

/// Where the API server listens, and the first address of the network that machines are attached to.
pub const API_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);
/// Its port.
pub const API_PORT: u16 = 6443;
/// Addresses of Services.
pub const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The Service `kubernetes`, the first of these.
pub const API_SERVICE: &str = "10.96.0.1";
/// Which address of Services the cluster's DNS has.
pub const DNS_SERVICE: &str = "10.96.0.10";
/// The domain of the cluster's Services.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

const ETCD: &str = "https://127.0.0.1:2379";
const ETCD_PEER: &str = "http://127.0.0.1:2380";

/// A part of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The database.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
}

impl Part {
    /// All, in the order in which they are started.
    pub const ALL: [Self; 4] = [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Scheduler];

    /// The name of its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }
}

/// All keys, certificates and files of a cluster, each part's with itself.
#[derive(Debug)]
pub(crate) struct Keys {
    folder: PathBuf,
    /// Signs everybody's certificates but those of the next two.
    pub(crate) cluster: Authority,
    cluster_files: Files,
    front_proxy_authority: Files,
    front_proxy: Files,
    etcd_authority: Files,
    etcd: Files,
    etcd_client: Files,
    server: Files,
    kubelet_client: Files,
    tokens: Files,
}

/// Whom the API server is when it asks a kubelet.
pub(crate) const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

impl Keys {
    /// Makes them and writes them into a folder.
    pub(crate) fn write(folder: &Path) -> Result<Self> {
        let (cluster, front, etcd) =
            (Authority::new("kubernetes")?, Authority::new("front-proxy")?, Authority::new("etcd")?);
        let address = API_ADDRESS.to_string();
        let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1"];
        let names = [&names[..], &["kubernetes.default.svc.cluster.local", API_SERVICE, &address]].concat();
        let etcd_server = etcd.server(&["localhost", "127.0.0.1"])?;
        let keys = Self {
            folder: folder.to_owned(),
            cluster_files: cluster.identity().write(folder, "cluster")?,
            front_proxy_authority: front.identity().write(folder, "front-proxy-authority")?,
            front_proxy: front.client("front-proxy-client", &[])?.write(folder, "front-proxy")?,
            etcd_authority: etcd.identity().write(folder, "etcd-authority")?,
            etcd: etcd_server.write(folder, "etcd")?,
            etcd_client: etcd.client("kube-apiserver-etcd-client", &[])?.write(folder, "etcd-client")?,
            server: cluster.server(&names)?.write(folder, "apiserver")?,
            kubelet_client: cluster.client(KUBELET_CLIENT, &[])?.write(folder, "kubelet-client")?,
            tokens: keys::token_keys(folder)?,
            cluster,
        };
        keys.kubeconfig("kube-controller-manager", "system:kube-controller-manager", &[])?;
        keys.kubeconfig("kube-scheduler", "system:kube-scheduler", &[])?;
        Ok(keys)
    }

    /// Writes `NAME.kubeconfig` of a user.
    pub(crate) fn kubeconfig(&self, name: &str, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let server = format!("https://{API_ADDRESS}:{API_PORT}");
        let text = self.cluster.client(user, groups)?.kubeconfig(&server, self.cluster.certificate(), user);
        let path = self.folder.join(format!("{name}.kubeconfig"));
        keys::write(&path, &text)?;
        Ok(path)
    }
}

/// The arguments of a part that keeps its data in a folder.
pub(crate) fn arguments(part: Part, keys: &Keys, data: &Path, fsync: bool) -> Vec<String> {
    match part {
        Part::Etcd => etcd(keys, data, fsync),
        Part::ApiServer => api_server(keys, data),
        Part::ControllerManager => controller_manager(keys),
        Part::Scheduler => follower(keys, part),
    }
}

fn etcd(keys: &Keys, data: &Path, fsync: bool) -> Vec<String> {
    let mut arguments = vec![
        "--name=monopod".to_owned(),
        file("data-dir", &data.join("etcd")),
        format!("--listen-client-urls={ETCD}"),
        format!("--advertise-client-urls={ETCD}"),
        format!("--listen-peer-urls={ETCD_PEER}"),
        format!("--initial-advertise-peer-urls={ETCD_PEER}"),
        format!("--initial-cluster=monopod={ETCD_PEER}"),
        file("cert-file", &keys.etcd.certificate),
        file("key-file", &keys.etcd.key),
        file("trusted-ca-file", &keys.etcd_authority.certificate),
        "--client-cert-auth".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    if !fsync {
        arguments.push("--unsafe-no-fsync".to_owned());
    }
    arguments
}

fn api_server(keys: &Keys, data: &Path) -> Vec<String> {
    let own = [
        format!("--advertise-address={API_ADDRESS}"),
        format!("--secure-port={API_PORT}"),
        format!("--etcd-servers={ETCD}"),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        format!("--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}"),
        file("etcd-cafile", &keys.etcd_authority.certificate),
        file("etcd-certfile", &keys.etcd_client.certificate),
        file("etcd-keyfile", &keys.etcd_client.key),
        file("client-ca-file", &keys.cluster_files.certificate),
        file("tls-cert-file", &keys.server.certificate),
        file("tls-private-key-file", &keys.server.key),
        file("kubelet-certificate-authority", &keys.cluster_files.certificate),
        file("kubelet-client-certificate", &keys.kubelet_client.certificate),
        file("kubelet-client-key", &keys.kubelet_client.key),
        file("service-account-key-file", &keys.tokens.certificate),
        file("service-account-signing-key-file", &keys.tokens.key),
        file("requestheader-client-ca-file", &keys.front_proxy_authority.certificate),
        file("proxy-client-cert-file", &keys.front_proxy.certificate),
        file("proxy-client-key-file", &keys.front_proxy.key),
        file("cert-dir", &data.join("apiserver")),
    ];
    // Webhooks and aggregated APIs are reached at their Pods: there need be no kube-proxy beside the API server.
    let fixed = "--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --anonymous-auth=false \
                 --kubelet-preferred-address-types=InternalIP --enable-aggregator-routing=true \
                 --requestheader-allowed-names=front-proxy-client --requestheader-username-headers=X-Remote-User \
                 --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- \
                 --allow-privileged=true --profiling=false";
    own.into_iter().chain(fixed.split_whitespace().map(str::to_owned)).collect()
}

fn controller_manager(keys: &Keys) -> Vec<String> {
    let mut arguments = follower(keys, Part::ControllerManager);
    arguments.extend([
        "--use-service-account-credentials=true".to_owned(),
        file("service-account-private-key-file", &keys.tokens.key),
        file("root-ca-file", &keys.cluster_files.certificate),
        file("cluster-signing-cert-file", &keys.cluster_files.certificate),
        file("cluster-signing-key-file", &keys.cluster_files.key),
    ]);
    arguments
}

/// What those have in common who only talk to the API server. There is one of each, so nobody stands for election.
fn follower(keys: &Keys, part: Part) -> Vec<String> {
    let kubeconfig = keys.folder.join(format!("{}.kubeconfig", part.program()));
    let fixed = ["--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false"].map(str::to_owned);
    let files = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"];
    files.iter().map(|name| file(name, &kubeconfig)).chain(fixed).collect()
}

fn file(flag: &str, path: &Path) -> String {
    format!("--{flag}={}", path.display())
}
