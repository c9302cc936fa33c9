//! What was done to a Pod so far: the state that its annotations and conditions keep, and what an outcome makes of it.

use jiff::Timestamp;

/// How far the patching of one Pod has come. The diagram is in the module above.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Record {
    /// Nothing was said or done.
    #[default]
    Untold,
    /// The owner knows when the Pod will be evicted.
    Noticed {
        /// Date of the first eviction.
        evict_at: Timestamp,
    },
    /// The first eviction was refused; nobody was told yet.
    Refused {
        /// What the Eviction API said.
        message: String,
    },
    /// The owner knows when the Pod will be evicted or deleted at last.
    Announced {
        /// `scheduledTerminationTime`.
        terminate_at: Timestamp,
    },
    /// The second eviction was refused as well.
    RefusedAgain {
        /// `scheduledTerminationTime`, which has been reached.
        terminate_at: Timestamp,
        /// What the Eviction API said.
        message: String,
    },
    /// The Eviction API took the Pod.
    Evicted,
    /// The Pod was deleted.
    Deleted,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The notice was written.
    Noticed {
        /// The date in it.
        evict_at: Timestamp,
    },
    /// The Eviction API took the Pod.
    EvictionAccepted,
    /// The Eviction API refused the Pod, most often for a PodDisruptionBudget.
    EvictionFailed {
        /// What it said.
        message: String,
    },
    /// The event with the termination time was sent.
    Announced {
        /// The time in it.
        terminate_at: Timestamp,
    },
    /// The Pod was deleted.
    Deleted,
}

impl Record {
    /// The record after `outcome`. News that does not fit, being late or repeated, changes nothing. Exhaustive on
    /// purpose: a new state or outcome does not compile until every pair is decided.
    #[must_use]
    pub fn step(self, outcome: Outcome) -> Self {
        match outcome {
            Outcome::Noticed { evict_at } => self.noticed(evict_at),
            Outcome::EvictionAccepted => self.accepted(),
            Outcome::EvictionFailed { message } => self.refused(message),
            Outcome::Announced { terminate_at } => self.announced(terminate_at),
            Outcome::Deleted => self.deleted(),
        }
    }

    fn noticed(self, evict_at: Timestamp) -> Self {
        match self {
            Self::Untold | Self::Noticed { .. } => Self::Noticed { evict_at },
            Self::Refused { .. }
            | Self::Announced { .. }
            | Self::RefusedAgain { .. }
            | Self::Evicted
            | Self::Deleted => self,
        }
    }

    fn accepted(self) -> Self {
        match self {
            Self::Noticed { .. } | Self::Refused { .. } | Self::Announced { .. } | Self::RefusedAgain { .. } => {
                Self::Evicted
            }
            Self::Untold | Self::Evicted | Self::Deleted => self,
        }
    }

    fn refused(self, message: String) -> Self {
        match self {
            Self::Noticed { .. } => Self::Refused { message },
            Self::Announced { terminate_at } => Self::RefusedAgain { terminate_at, message },
            Self::Untold | Self::Refused { .. } | Self::RefusedAgain { .. } | Self::Evicted | Self::Deleted => self,
        }
    }

    fn announced(self, terminate_at: Timestamp) -> Self {
        match self {
            Self::Refused { .. } => Self::Announced { terminate_at },
            Self::Untold
            | Self::Noticed { .. }
            | Self::Announced { .. }
            | Self::RefusedAgain { .. }
            | Self::Evicted
            | Self::Deleted => self,
        }
    }

    fn deleted(self) -> Self {
        match self {
            Self::RefusedAgain { .. } => Self::Deleted,
            Self::Untold
            | Self::Noticed { .. }
            | Self::Refused { .. }
            | Self::Announced { .. }
            | Self::Evicted
            | Self::Deleted => self,
        }
    }

    /// The Pod is on its way out by our doing.
    pub(super) fn is_leaving(&self) -> bool {
        match self {
            Self::Evicted | Self::Deleted => true,
            Self::Untold
            | Self::Noticed { .. }
            | Self::Refused { .. }
            | Self::Announced { .. }
            | Self::RefusedAgain { .. } => false,
        }
    }

    /// Its eviction was tried, so its zone has begun.
    pub(super) fn has_begun(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::Announced { .. }
            | Self::RefusedAgain { .. }
            | Self::Evicted
            | Self::Deleted => true,
            Self::Untold | Self::Noticed { .. } => false,
        }
    }
}
