//! Hosts of one class, found by "the most free one that fits" without looking at all of them.
//!
//! A tournament tree: the hosts sit at the leaves in no order, and every inner node knows the best host below it and
//! the most of each resource that any host below it has free. A search goes to the better half first and passes over
//! halves that cannot fit or cannot win, so it costs O(log n) when the best host fits, and at worst sees each host once.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use monopod_types::HostName;

use super::resources::{Headroom, Resources};

/// One host that takes Pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) host: HostName,
    pub(super) free: Resources,
    pub(super) headroom: Headroom,
}

impl Seat {
    /// The greater, the better: the most free host, the first by name among equals.
    fn rank(&self) -> (Headroom, Reverse<&HostName>) {
        (self.headroom, Reverse(&self.host))
    }
}

/// What is known of all hosts below a node of the tree.
#[derive(Clone, Copy, Debug, Default)]
struct Summary {
    /// Leaf of the best host.
    best: Option<usize>,
    most: Resources,
}

/// The tree. Node 1 is the root, the children of node `n` are `2n` and `2n + 1`, the leaves are the last half.
#[derive(Clone, Debug)]
pub(super) struct Ranking {
    seats: Vec<Option<Seat>>,
    nodes: Vec<Summary>,
    vacant: BTreeSet<usize>,
}

impl Default for Ranking {
    fn default() -> Self {
        Self { seats: vec![None], nodes: vec![Summary::default(); 2], vacant: BTreeSet::from([0]) }
    }
}

impl Ranking {
    /// Adds a host and answers the leaf under which it is updated and removed.
    pub(super) fn insert(&mut self, seat: Seat) -> usize {
        let leaf = self.vacant.pop_first().unwrap_or_else(|| self.grow());
        self.set(leaf, Some(seat));
        leaf
    }

    /// Replaces what is known of the host at `leaf`.
    pub(super) fn update(&mut self, leaf: usize, seat: Seat) {
        self.set(leaf, Some(seat));
    }

    pub(super) fn remove(&mut self, leaf: usize) {
        self.set(leaf, None);
        self.vacant.insert(leaf);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.vacant.len() == self.seats.len()
    }

    /// The best host of all.
    pub(super) fn best(&self) -> Option<&Seat> {
        self.seats[self.nodes[1].best?].as_ref()
    }

    /// The best host that has `need` free and is acceptable.
    pub(super) fn best_fit(&self, need: &Resources, acceptable: impl Fn(&HostName) -> bool) -> Option<&Seat> {
        let mut found = None;
        self.search(1, need, &acceptable, &mut found);
        found
    }

    #[cfg(test)]
    pub(super) fn seats(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter().flatten()
    }

    fn search<'a>(
        &'a self,
        node: usize,
        need: &Resources,
        acceptable: &impl Fn(&HostName) -> bool,
        found: &mut Option<&'a Seat>,
    ) {
        let Some(best) = self.best_below(node) else { return };
        if !self.nodes[node].most.cover(need) || found.is_some_and(|found| found.rank() > best.rank()) {
            return;
        }
        if node >= self.seats.len() {
            if acceptable(&best.host) {
                *found = Some(best);
            }
            return;
        }
        let halves = [2 * node, 2 * node + 1];
        let second_is_better = self.nodes[halves[1]].best == self.nodes[node].best;
        let order = if second_is_better { [halves[1], halves[0]] } else { halves };
        for half in order {
            self.search(half, need, acceptable, found);
        }
    }

    fn best_below(&self, node: usize) -> Option<&Seat> {
        self.seats[self.nodes[node].best?].as_ref()
    }

    /// Doubles the leaves and answers the first new one.
    fn grow(&mut self) -> usize {
        let first = self.seats.len();
        self.seats.resize(2 * first, None);
        self.nodes = vec![Summary::default(); 4 * first];
        for leaf in 0..first {
            self.nodes[2 * first + leaf] = self.summary_of_leaf(leaf);
        }
        for node in (1..2 * first).rev() {
            self.nodes[node] = self.summary_of_halves(node);
        }
        self.vacant.extend(first + 1..2 * first);
        first
    }

    fn set(&mut self, leaf: usize, seat: Option<Seat>) {
        self.seats[leaf] = seat;
        let mut node = self.seats.len() + leaf;
        self.nodes[node] = self.summary_of_leaf(leaf);
        while node > 1 {
            node /= 2;
            self.nodes[node] = self.summary_of_halves(node);
        }
    }

    fn summary_of_leaf(&self, leaf: usize) -> Summary {
        let most = self.seats[leaf].as_ref().map_or_else(Resources::default, |seat| seat.free);
        Summary { best: self.seats[leaf].as_ref().map(|_| leaf), most }
    }

    fn summary_of_halves(&self, node: usize) -> Summary {
        let halves = [self.nodes[2 * node], self.nodes[2 * node + 1]];
        let rank = |leaf: &usize| self.seats[*leaf].as_ref().map(Seat::rank);
        Summary {
            best: halves.iter().filter_map(|half| half.best).max_by_key(rank),
            most: halves[0].most.max(halves[1].most),
        }
    }
}
