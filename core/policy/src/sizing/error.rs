//! Why a Pod has no size.

use monopod_types::{GiB, QuantityError};

use super::Shape;

/// Why a Pod has no size. The messages about sizes are those that users of AWS Fargate know, word for word.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SizingError {
    /// The Pod needs more CPU or memory than the largest size has.
    #[error("Your pod's cpu/memory requirements exceed the max Fargate configuration")]
    CpuOrMemoryTooLarge {
        /// What the Pod asks and what the guest itself takes.
        need: Shape,
        /// The largest size of the profile's mode.
        largest: Shape,
    },
    /// The Pod asks more disk than a microVM may have.
    #[error("Your pod's ephemeral storage requirements exceed the max Fargate configuration")]
    EphemeralStorageTooLarge {
        /// Effective request of the Pod, rounded up.
        asked: GiB,
        /// The most that a Pod may ask.
        largest: GiB,
    },
    /// One amount in the Pod cannot be used.
    #[error("{field} has the unusable value {value:?}")]
    Quantity {
        /// Path of the field: `spec.containers[1].resources.requests[memory]`.
        field: String,
        /// What stands there.
        value: String,
        /// What is wrong with it.
        #[source]
        problem: QuantityProblem,
    },
}

/// What is wrong with one amount.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum QuantityProblem {
    /// The text is no quantity.
    #[error(transparent)]
    Malformed(QuantityError),
    /// The amount is less than nothing.
    #[error("a resource cannot be negative")]
    Negative,
    /// The amount is so large that Kubernetes caps it, and is certainly a slip.
    #[error("a request must be less than 2^63 - 1")]
    Absurd,
}

impl SizingError {
    /// Reason of the Pod's `PodScheduled` condition and label of metrics, in the manner of the reference.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::CpuOrMemoryTooLarge { .. } => "POD_CPU_MEM_EXCEEDS_MAX_FARGATE_SIZE",
            Self::EphemeralStorageTooLarge { .. } => "POD_EPHEMERAL_STORAGE_EXCEEDS_MAX_FARGATE_SIZE",
            Self::Quantity { .. } => "POD_RESOURCE_QUANTITY_INVALID",
        }
    }

    /// One line for the user: by how much, and what to do instead.
    pub fn advice(&self) -> String {
        match self {
            Self::CpuOrMemoryTooLarge { need, largest } => format!(
                "the Pod needs {need} with what its microVM itself takes, the largest size has {largest}; lower the requests or \
                 split the Pod"
            ),
            Self::EphemeralStorageTooLarge { asked, largest } => format!(
                "the Pod asks {asked} of ephemeral-storage, at most {largest} can be had; lower the requests or use a persistent \
                 volume"
            ),
            Self::Quantity { field, problem, .. } => format!("correct {field}: {problem}"),
        }
    }
}
