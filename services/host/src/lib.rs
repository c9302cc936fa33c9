//! The kubelet of the microVMs of one machine.
