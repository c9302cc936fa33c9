//! The life of one VM as a pure state machine.
