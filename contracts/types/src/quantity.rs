//! Kubernetes quantities (`250m`, `1.5Gi`, `2e3`), read exactly.

/// An amount read from a Kubernetes quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity;

/// Why a text is not a quantity that Monopod accepts.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QuantityError {}
