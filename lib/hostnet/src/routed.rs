//! The real network: taps with routes, made ahead.
//!
//! Attaching a Pod takes a finished tap from a small store and writes the Pod's name on it. A task refills the store.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use monopod_types::PodUid;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::HostNet;
use crate::config::{NetConfig, Outside};
use crate::error::NetError;
use crate::links::{FoundTap, Links};
use crate::plan::{FreeSlots, Plan, Slot};
use crate::types::{Attachment, Lease, PeerBlock, Traffic};
use crate::{rules, settings, tap};

/// How long the store waits after a failure to make a tap.
const REFILL_PAUSE: Duration = Duration::from_secs(5);

/// The network of this machine, in the namespace of the thread that opened it.
#[derive(Debug)]
pub struct RoutedNet {
    shared: Arc<Shared>,
    refill: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    plan: Plan,
    /// What the packet filter says of the outside; held while it is set.
    outside: tokio::sync::Mutex<Outside>,
    links: Links,
    state: Mutex<State>,
    /// Somebody took a tap from the store, or gave back an address.
    changed: Notify,
    /// The task has finished a tap, or failed to.
    prepared: Notify,
}

#[derive(Debug)]
struct State {
    free: FreeSlots,
    /// Finished taps for whoever comes.
    ready: VecDeque<Prepared>,
    /// The task is making one more of them.
    preparing: bool,
    attached: HashMap<PodUid, Place>,
    /// Taps of an earlier life, until they are adopted or removed.
    found: Vec<FoundTap>,
    closed: bool,
}

/// A finished tap without a Pod.
#[derive(Debug)]
struct Prepared {
    place: Place,
    tap: OwnedFd,
}

/// Where a Pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    slot: Slot,
    /// Of the tap; 0 while it is being made.
    index: u32,
}

impl RoutedNet {
    /// Sets the packet filter, turns routing on, finds what an earlier life left, and begins to make taps ahead.
    ///
    /// # Errors
    /// When the configuration cannot be, or the machine does not let us.
    pub async fn open(config: NetConfig) -> Result<Self, NetError> {
        let plan = Plan::new(config)?;
        settings::enable_routing(plan.config.block6.is_some())?;
        let outside = plan.config.outside.clone();
        rules::apply(&plan, &outside).await?;
        let links = Links::open()?;
        let found = links.taps(&plan).await?;
        let taken = |slot: &Slot| found.iter().any(|tap| tap.slot == *slot);
        let free = FreeSlots::new(plan.slots().filter(|slot| !taken(slot)));
        let state =
            State { free, ready: VecDeque::new(), preparing: false, attached: HashMap::new(), found, closed: false };
        let (outside, state) = (tokio::sync::Mutex::new(outside), Mutex::new(state));
        let shared = Arc::new(Shared { plan, outside, links, state, changed: Notify::new(), prepared: Notify::new() });
        let refill = tokio::spawn(refill(Arc::clone(&shared)));
        Ok(Self { shared, refill: Mutex::new(Some(refill)) })
    }
}

impl Drop for RoutedNet {
    fn drop(&mut self) {
        let refill = self.refill.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = refill {
            task.abort();
        }
    }
}

#[async_trait]
impl HostNet for RoutedNet {
    async fn attach(&self, pod: &PodUid, wanted: Option<Ipv4Addr>) -> Result<Attachment, NetError> {
        let shared = &self.shared;
        let prepared = match shared.reserved(pod, wanted).await? {
            Reserved::Ready(prepared) => Ok(prepared),
            Reserved::Slot(slot) => shared.prepare(slot).await,
        };
        shared.changed.notify_one();
        let named = async {
            let prepared = prepared?;
            shared.links.name_pod(prepared.place.index, pod).await?;
            Ok(prepared)
        };
        match named.await {
            Ok(Prepared { place, tap }) => {
                shared.state().attached.insert(pod.clone(), place);
                Ok(Attachment { tap, lease: shared.plan.lease(place.slot) })
            }
            Err(error) => {
                // Its tap, if it has come that far, was closed by now.
                shared.release(pod);
                Err(error)
            }
        }
    }

    async fn detach(&self, pod: &PodUid) -> Result<(), NetError> {
        let Some(place) = self.shared.state().attached.get(pod).copied() else { return Ok(()) };
        if place.index != 0 {
            self.shared.links.remove(place.index).await?;
        }
        self.shared.release(pod);
        self.shared.changed.notify_one();
        Ok(())
    }

    async fn adopt(&self, live: &[PodUid]) -> Result<Vec<(PodUid, Lease)>, NetError> {
        let shared = &self.shared;
        let outside = shared.outside.lock().await;
        rules::apply(&shared.plan, &outside).await?;
        drop(outside);
        while let Some(tap) = shared.next_found() {
            if let Err(error) = shared.adopt_or_remove(&tap, live).await {
                shared.state().found.push(tap);
                return Err(error);
            }
        }
        let mut adopted = Vec::new();
        let attached: Vec<(PodUid, Place)> =
            shared.state().attached.iter().map(|(pod, place)| (pod.clone(), *place)).collect();
        for (pod, place) in attached.into_iter().filter(|(pod, place)| live.contains(pod) && place.index != 0) {
            if shared.repair(place).await? {
                adopted.push((pod, shared.plan.lease(place.slot)));
            }
        }
        Ok(adopted)
    }

    async fn route_peers(&self, peers: &[PeerBlock]) -> Result<(), NetError> {
        self.shared.links.route_peers(peers).await
    }

    async fn set_outside(&self, outside: Outside) -> Result<(), NetError> {
        let mut set = self.shared.outside.lock().await;
        rules::apply(&self.shared.plan, &outside).await?;
        *set = outside;
        Ok(())
    }

    async fn stats(&self, pod: &PodUid) -> Result<Traffic, NetError> {
        let not_attached = || NetError::NotAttached { pod: pod.clone() };
        let place = self.shared.state().attached.get(pod).copied().ok_or_else(not_attached)?;
        self.shared.links.traffic(place.index).await?.ok_or_else(not_attached)
    }

    async fn close(&self) -> Result<(), NetError> {
        let task = self.refill.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
            // Its last tap is closed when it has ended; that it was aborted is what we asked for.
            let _ = task.await;
        }
        let (ready, in_use) = {
            let mut state = self.shared.state();
            state.closed = true;
            (std::mem::take(&mut state.ready), !state.attached.is_empty() || !state.found.is_empty())
        };
        for Prepared { place, tap } in ready {
            drop(tap);
            self.shared.state().free.give_back(place.slot);
        }
        if in_use {
            return Ok(());
        }
        self.shared.links.route_peers(&[]).await?;
        rules::remove(&self.shared.plan).await
    }
}

/// What a Pod gets at once.
enum Reserved {
    Ready(Prepared),
    Slot(Slot),
}

/// Somebody has the slot.
struct Taken;

impl State {
    /// Takes a certain slot, with its tap where that is finished; `None` while one tap is being made, which may be this one.
    fn take_this(&mut self, slot: Slot) -> Result<Option<Reserved>, Taken> {
        if let Some(at) = self.ready.iter().position(|prepared| prepared.place.slot == slot) {
            return Ok(self.ready.remove(at).map(Reserved::Ready));
        }
        if self.free.take_this(slot) {
            return Ok(Some(Reserved::Slot(slot)));
        }
        if self.preparing { Ok(None) } else { Err(Taken) }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between two states is left by a panic: all changes are single calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Books a place for a Pod. Waits for a tap that is nearly finished: its address is the next in order, and may be the
    /// last one.
    async fn reserved(&self, pod: &PodUid, wanted: Option<Ipv4Addr>) -> Result<Reserved, NetError> {
        loop {
            let mut prepared = pin!(self.prepared.notified());
            prepared.as_mut().enable();
            if let Some(reserved) = self.reserve(pod, wanted)? {
                return Ok(reserved);
            }
            prepared.await;
        }
    }

    /// Books a place for a Pod, with a finished tap where there is one; `None` while one is being made.
    fn reserve(&self, pod: &PodUid, wanted: Option<Ipv4Addr>) -> Result<Option<Reserved>, NetError> {
        let mut state = self.state();
        if state.attached.contains_key(pod) {
            return Err(NetError::AlreadyAttached { pod: pod.clone() });
        }
        if let Some(address) = wanted {
            let slot = self.plan.slot_at(address).ok_or(NetError::ForeignAddress { address })?;
            let reserved = state.take_this(slot).map_err(|Taken| NetError::AddressTaken { address })?;
            if reserved.is_some() {
                state.attached.insert(pod.clone(), Place { slot, index: 0 });
            }
            return Ok(reserved);
        }
        let (slot, reserved) = if let Some(prepared) = state.ready.pop_front() {
            (prepared.place.slot, Reserved::Ready(prepared))
        } else if state.preparing {
            return Ok(None);
        } else {
            let exhausted = || NetError::AddressesExhausted { total: self.plan.slots().count() };
            let slot = state.free.take().ok_or_else(exhausted)?;
            (slot, Reserved::Slot(slot))
        };
        state.attached.insert(pod.clone(), Place { slot, index: 0 });
        Ok(Some(reserved))
    }

    fn release(&self, pod: &PodUid) {
        let mut state = self.state();
        if let Some(place) = state.attached.remove(pod) {
            state.free.give_back(place.slot);
        }
    }

    fn next_found(&self) -> Option<FoundTap> {
        self.state().found.pop()
    }

    /// Gives a tap of an earlier life to its Pod, or removes it.
    async fn adopt_or_remove(&self, tap: &FoundTap, live: &[PodUid]) -> Result<(), NetError> {
        let place = Place { slot: tap.slot, index: tap.index };
        if let Some(pod) = tap.pod.as_ref().filter(|pod| live.contains(pod))
            && let Entry::Vacant(entry) = self.state().attached.entry(pod.clone())
        {
            entry.insert(place);
            return Ok(());
        }
        tracing::info!(tap = self.plan.tap_name(tap.slot), "removing a tap that no live pod has");
        self.links.remove(tap.index).await?;
        self.state().free.give_back(tap.slot);
        Ok(())
    }

    /// Makes a finished tap.
    async fn prepare(&self, slot: Slot) -> Result<Prepared, NetError> {
        let name = self.plan.tap_name(slot);
        let tap = tap::open(&name).map_err(|source| NetError::Tap { name: name.clone(), source })?;
        settings::prepare_tap(&name, self.plan.config.block6.is_some())?;
        let index = self.links.index_of(&name).await?;
        self.links.configure(&self.plan, slot, index).await?;
        Ok(Prepared { place: Place { slot, index }, tap })
    }

    /// Brings a tap in use back to what it must be; false when it is gone.
    async fn repair(&self, place: Place) -> Result<bool, NetError> {
        if self.links.traffic(place.index).await?.is_none() {
            return Ok(false);
        }
        settings::prepare_tap(&self.plan.tap_name(place.slot), self.plan.config.block6.is_some())?;
        self.links.configure(&self.plan, place.slot, place.index).await?;
        Ok(true)
    }

    fn next_to_prepare(&self) -> Option<Slot> {
        let mut state = self.state();
        let wanted = !state.closed && state.ready.len() < self.plan.config.ready;
        let slot = if wanted { state.free.take() } else { None };
        state.preparing = slot.is_some();
        slot
    }

    /// Puts what the task has made into the store.
    fn finish(&self, slot: Slot, prepared: Result<Prepared, NetError>) -> Result<(), NetError> {
        let mut state = self.state();
        state.preparing = false;
        let result = match prepared {
            Ok(prepared) => {
                state.ready.push_back(prepared);
                Ok(())
            }
            Err(error) => {
                state.free.give_back(slot);
                Err(error)
            }
        };
        drop(state);
        self.prepared.notify_waiters();
        result
    }
}

/// Keeps the store full.
async fn refill(shared: Arc<Shared>) {
    loop {
        while let Some(slot) = shared.next_to_prepare() {
            let prepared = shared.prepare(slot).await;
            if let Err(error) = shared.finish(slot, prepared) {
                tracing::warn!(error = &error as &dyn std::error::Error, "failed to make a tap ahead");
                tokio::time::sleep(REFILL_PAUSE).await;
            }
        }
        shared.changed.notified().await;
    }
}
