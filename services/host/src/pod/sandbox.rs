//! The microVM of a Pod with its network and its agent: how it is made, and how it is given back.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use monopod_agent_client::{AgentClient, AgentError, Deadlines, FnTransport};
use monopod_agent_proto::v1::{self, HelloResponse, PersonalizeRequest, PersonalizeResponse};
use monopod_hostnet::{Attachment, Lease, NetError};
use monopod_images::Image;
use monopod_podplan::life::SandboxFailure;
use monopod_podplan::plan::{SandboxError, personalize, pod_files};
use monopod_types::PodUid;
use monopod_vmm::{ByteStream, Disk, Vm, VmError, VmExit, VmId, VmSpec};
use monopod_volumes::ScratchError;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::work::{Work, chain};
use crate::identity::{hex, random};
use crate::news::warning;

/// By which the guest finds its writable disk.
const SCRATCH_SERIAL: &str = "scratch";

/// How long one attempt to connect to an agent may take.
const CONNECT_ATTEMPT: Duration = Duration::from_secs(2);
/// Between attempts to reach the agent of a guest that boots.
const HELLO_PAUSE: Duration = Duration::from_millis(100);

/// How long the last Pod with an address may still have it.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(10);
/// Between looks whether it has.
const ADDRESS_PAUSE: Duration = Duration::from_millis(20);

/// A running microVM that is the Pod's own.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) vm: Arc<dyn Vm>,
    pub(crate) agent: AgentClient,
    pub(crate) facts: SandboxFacts,
    /// Cancelled when the microVM has ended.
    pub(super) gone: CancellationToken,
    /// Serials of the image disks that it has.
    attached: Mutex<BTreeSet<String>>,
}

/// What is known of a microVM once it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SandboxFacts {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) mac: String,
    pub(crate) boot_id: String,
    pub(crate) guest_kernel: String,
}

/// Why there is no microVM.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("failed to connect the pod to the network")]
    Network(#[from] NetError),
    #[error("failed to make the pod's scratch disk")]
    Scratch(#[from] ScratchError),
    #[error("failed to start the microVM")]
    Vm(#[from] VmError),
    #[error("failed to talk to the guest agent")]
    Agent(#[from] AgentError),
    #[error("failed to name the pod")]
    Name(#[from] SandboxError),
    #[error("failed to get random bytes")]
    Random(#[source] io::Error),
    #[error("the microVM belongs to pod {uid}")]
    Foreign { uid: String },
    #[error("{exit}")]
    Ended { exit: VmExit },
}

impl StartError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Network(error) => error.reason(),
            Self::Scratch(error) => error.reason(),
            Self::Vm(error) => error.reason(),
            Self::Agent(error) => error.reason(),
            Self::Name(error) => error.reason(),
            Self::Random(_) => "NoRandomBytes",
            Self::Foreign { .. } => "ForeignMicroVm",
            Self::Ended { exit } => exit.reason(),
        }
    }

    /// Whether it would fail again.
    fn is_final(&self) -> bool {
        match self {
            Self::Network(error) => error.retry() == monopod_hostnet::Retry::Never,
            Self::Vm(error) => error.retry() == monopod_vmm::Retry::Never,
            Self::Agent(error) => matches!(error, AgentError::VersionMismatch { .. }),
            Self::Name(_) => true,
            Self::Scratch(_) | Self::Random(_) | Self::Foreign { .. } | Self::Ended { .. } => false,
        }
    }

    /// As the machine takes it.
    pub(super) fn failure(&self) -> SandboxFailure {
        SandboxFailure { reason: self.reason().to_owned(), message: chain(self), is_final: self.is_final() }
    }
}

/// Makes a Pod's microVM; nothing is left when it fails. Images that are there already come with it.
pub(super) async fn start(work: &Work, images: &[Image]) -> Result<Sandbox, StartError> {
    let started = try_start(work, images).await;
    if started.is_err() {
        work.machine.release(&work.uid()).await;
    }
    started
}

async fn try_start(work: &Work, images: &[Image]) -> Result<Sandbox, StartError> {
    let (uid, begun) = (work.uid(), Instant::now());
    let network = attach(work, &uid);
    let scratch = work.machine.disks.create(&uid, work.shape.scratch, work.machine.disk_owner);
    let (attachment, scratch) = tokio::join!(network, scratch);
    let (attachment, scratch) = (attachment?, scratch?);
    work.shared.stage("network", begun);

    let begun = Instant::now();
    let scratch_disk = Disk { serial: SCRATCH_SERIAL.to_owned(), path: scratch.path, read_only: false };
    let disks: Vec<Disk> = std::iter::once(scratch_disk).chain(images.iter().map(image_disk)).collect();
    let attached = disks.iter().skip(1).map(|disk| disk.serial.clone()).collect();
    let (cpu, memory) = (work.shape.cpu, work.shape.memory);
    let spec = VmSpec { id: VmId::try_from(&uid)?, cpu, memory, tap: Some(attachment.tap), disks: unique(disks) };
    let vm = work.machine.vmm.start(spec).await?;
    for stage in vm.stages() {
        work.shared.stage_took(&format!("vm/{}", stage.name), stage.took);
    }
    work.shared.stage("vm", begun);

    let begun = Instant::now();
    let agent = agent(&vm, work.machine.settings.deadlines);
    let hello = greet(&agent, &vm, work.machine.settings.boot_patience).await?;
    if hello.personalized {
        return Err(StartError::Foreign { uid: hello.pod_uid });
    }
    let personal = make_personal(work, &agent, &attachment.lease).await?;
    work.shared.stage("agent", begun);
    let facts = SandboxFacts {
        addresses: addresses(&attachment.lease),
        mac: attachment.lease.mac.to_string(),
        boot_id: personal.boot_id,
        guest_kernel: hello.kernel_release,
    };
    Ok(Sandbox { vm, agent, facts, gone: CancellationToken::new(), attached: Mutex::new(attached) })
}

/// Connects a Pod. The last Pod with its address may still be ending: one that was deleted by force is gone from the cluster
/// before its microVM is.
async fn attach(work: &Work, uid: &PodUid) -> Result<Attachment, NetError> {
    let begun = Instant::now();
    loop {
        match work.machine.net.attach(uid, work.address).await {
            Err(NetError::AddressTaken { .. }) if begun.elapsed() < ADDRESS_PATIENCE => {
                tokio::time::sleep(ADDRESS_PAUSE).await;
            }
            attached => return attached,
        }
    }
}

/// The first answer of an agent to this daemon: its guest may still be booting.
pub(super) async fn greet(
    agent: &AgentClient,
    vm: &Arc<dyn Vm>,
    patience: Duration,
) -> Result<HelloResponse, StartError> {
    let greeting = async {
        loop {
            match agent.hello().await {
                Err(AgentError::Timeout { .. } | AgentError::Connect { .. } | AgentError::Unreachable { .. }) => {
                    tokio::time::sleep(HELLO_PAUSE).await;
                }
                answered => return answered,
            }
        }
    };
    tokio::select! {
        answered = tokio::time::timeout(patience, greeting) => match answered {
            Ok(answered) => Ok(answered?),
            Err(_) => Err(AgentError::Timeout { call: "Hello", after: patience }.into()),
        },
        exit = vm.wait() => Err(StartError::Ended { exit }),
    }
}

/// Each disk once: containers may share an image.
fn unique(mut disks: Vec<Disk>) -> Vec<Disk> {
    let mut seen = BTreeSet::new();
    disks.retain(|disk| seen.insert(disk.serial.clone()));
    disks
}

async fn make_personal(work: &Work, agent: &AgentClient, lease: &Lease) -> Result<PersonalizeResponse, StartError> {
    let addresses = addresses(lease);
    let (planned, files) = work.with_context(&addresses, |context| (personalize(context), pod_files(context)));
    for note in files?.notes {
        work.shared.news.tell_event(jiff::Timestamp::now(), warning(note.reason, note.message));
    }
    let entropy = random::<64>().map_err(StartError::Random)?;
    let machine_id = random::<16>().map_err(StartError::Random)?;
    let network = v1::Network {
        mac: lease.mac.to_string(),
        mtu: lease.mtu,
        addresses: lease.addresses.iter().map(ToString::to_string).collect(),
        gateways: lease.gateways.iter().map(ToString::to_string).collect(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let request = PersonalizeRequest {
        entropy: entropy.to_vec(),
        wall_clock: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        machine_id: hex(&machine_id),
        network: Some(network),
        scratch_serial: SCRATCH_SERIAL.to_owned(),
        ..planned?
    };
    let personal = agent.personalize(request).await?;
    for stage in &personal.stages {
        let took = Duration::from_nanos(stage.nanoseconds);
        work.shared.stage_took(&format!("agent/{}", stage.name), took);
    }
    Ok(personal)
}

fn addresses(lease: &Lease) -> Vec<IpAddr> {
    lease.addresses.iter().map(ipnet::IpNet::addr).collect()
}

fn image_disk(image: &Image) -> Disk {
    Disk { serial: image.serial.clone(), path: image.disk.clone(), read_only: true }
}

/// A client for the agent of a microVM. It gives an attempt to connect up early: a guest that could not answer a preamble
/// does not come back to it, and only the next attempt gets through.
pub(super) fn agent(vm: &Arc<dyn Vm>, deadlines: Deadlines) -> AgentClient {
    type Opening = Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>> + Send>>;
    let vm = Arc::clone(vm);
    let open = move || -> Opening {
        let vm = Arc::clone(&vm);
        Box::pin(async move { vm.connect().await.map_err(io::Error::other) })
    };
    let connect = deadlines.connect.min(CONNECT_ATTEMPT);
    AgentClient::new(FnTransport::new(open), Deadlines { connect, ..deadlines })
}

impl Sandbox {
    /// One that a former daemon has made.
    pub(super) fn adopted(
        vm: Arc<dyn Vm>,
        agent: AgentClient,
        facts: SandboxFacts,
        attached: BTreeSet<String>,
    ) -> Self {
        Self { vm, agent, facts, gone: CancellationToken::new(), attached: Mutex::new(attached) }
    }

    /// Sees that the guest has the disk of an image.
    pub(super) async fn attach_image(&self, image: &Image) -> Result<(), VmError> {
        let mut attached = self.attached.lock().await;
        if !attached.contains(&image.serial) {
            self.vm.attach(image_disk(image)).await?;
            attached.insert(image.serial.clone());
        }
        Ok(())
    }
}
