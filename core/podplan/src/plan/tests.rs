//! Claims about plans.
