//! A `HostNet` without interfaces: addresses are given as the real one does, taps are pipes that nobody reads.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ipnet::Ipv4Net;
use monopod_hostnet::{Attachment, HostNet, Lease, Mac, NetError, Outside, PeerBlock, Traffic};
use monopod_types::PodUid;

/// A `HostNet` without interfaces. Clones are the same network; it survives a daemon that drops its clone.
#[derive(Clone, Debug)]
pub struct FakeNet {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// What its addresses begin with.
    base: [u8; 3],
    total: usize,
    free: VecDeque<u8>,
    attached: BTreeMap<PodUid, u8>,
    failures: VecDeque<NetError>,
    calls: Vec<String>,
    peers: Vec<PeerBlock>,
}

impl Default for FakeNet {
    fn default() -> Self {
        Self::new(250)
    }
}

impl FakeNet {
    /// A network of so many addresses.
    pub fn new(addresses: u8) -> Self {
        Self::of([127, 77, 0], (1..=addresses).collect())
    }

    /// A network of the addresses of a block that is no larger than a /24.
    ///
    /// # Panics
    /// When it is larger.
    pub fn in_block(block: Ipv4Net) -> Self {
        assert!(block.prefix_len() >= 24, "a fake network has one byte for the numbers of its Pods");
        let [a, b, c, _] = block.network().octets();
        Self::of([a, b, c], block.hosts().map(|address| address.octets()[3]).collect())
    }

    fn of(base: [u8; 3], free: VecDeque<u8>) -> Self {
        let total = free.len();
        let state = State {
            base,
            total,
            free,
            attached: BTreeMap::new(),
            failures: VecDeque::new(),
            calls: Vec::new(),
            peers: Vec::new(),
        };
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    /// The next call of `attach` fails; several are taken in turn.
    pub fn fail_next_attach(&self, error: NetError) {
        self.lock().failures.push_back(error);
    }

    /// Pods that have an address.
    pub fn attached(&self) -> Vec<PodUid> {
        self.lock().attached.keys().cloned().collect()
    }

    /// What was asked so far: `attach a`, `detach a`.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// Blocks of other hosts that there are routes to.
    pub fn peers(&self) -> Vec<PeerBlock> {
        self.lock().peers.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_this(&mut self, address: Ipv4Addr) -> Result<u8, NetError> {
        let [a, b, c, number] = address.octets();
        if [a, b, c] != self.base {
            return Err(NetError::ForeignAddress { address });
        }
        let place = self.free.iter().position(|free| *free == number);
        let taken = NetError::AddressTaken { address };
        place.and_then(|place| self.free.remove(place)).ok_or(taken)
    }
}

fn lease([a, b, c]: [u8; 3], number: u8) -> Lease {
    let address = Ipv4Addr::new(a, b, c, number);
    Lease {
        tap_name: format!("fake{number}"),
        mac: Mac([2, 0, 0, 0, 0, number]),
        addresses: vec![Ipv4Net::from(address).into()],
        gateways: vec![IpAddr::from(Ipv4Addr::new(169, 254, 1, 1))],
        mtu: 1500,
    }
}

#[async_trait]
impl HostNet for FakeNet {
    async fn attach(&self, pod: &PodUid, wanted: Option<Ipv4Addr>) -> Result<Attachment, NetError> {
        let mut state = self.lock();
        state.calls.push(format!("attach {pod}"));
        if let Some(error) = state.failures.pop_front() {
            return Err(error);
        }
        if state.attached.contains_key(pod) {
            return Err(NetError::AlreadyAttached { pod: pod.clone() });
        }
        let failed = |source| NetError::Tap { name: "fake".to_owned(), source };
        let tap = File::options().read(true).write(true).open("/dev/null").map_err(failed)?.into();
        let exhausted = NetError::AddressesExhausted { total: state.total };
        let number = match wanted {
            None => state.free.pop_front().ok_or(exhausted)?,
            Some(address) => state.take_this(address)?,
        };
        state.attached.insert(pod.clone(), number);
        Ok(Attachment { tap, lease: lease(state.base, number) })
    }

    async fn detach(&self, pod: &PodUid) -> Result<(), NetError> {
        let mut state = self.lock();
        state.calls.push(format!("detach {pod}"));
        if let Some(number) = state.attached.remove(pod) {
            state.free.push_back(number);
        }
        Ok(())
    }

    async fn adopt(&self, live: &[PodUid]) -> Result<Vec<(PodUid, Lease)>, NetError> {
        let mut state = self.lock();
        state.calls.push("adopt".to_owned());
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut state.attached).into_iter().partition(|(pod, _)| live.contains(pod));
        state.free.extend(gone.into_values());
        state.attached = kept;
        Ok(state.attached.iter().map(|(pod, number)| (pod.clone(), lease(state.base, *number))).collect())
    }

    async fn route_peers(&self, peers: &[PeerBlock]) -> Result<(), NetError> {
        self.lock().peers = peers.to_vec();
        Ok(())
    }

    async fn set_outside(&self, _outside: Outside) -> Result<(), NetError> {
        // Nothing leads outside from here.
        Ok(())
    }

    async fn stats(&self, pod: &PodUid) -> Result<Traffic, NetError> {
        if self.lock().attached.contains_key(pod) {
            Ok(Traffic::default())
        } else {
            Err(NetError::NotAttached { pod: pod.clone() })
        }
    }

    async fn close(&self) -> Result<(), NetError> {
        self.lock().calls.push("close".to_owned());
        Ok(())
    }
}
