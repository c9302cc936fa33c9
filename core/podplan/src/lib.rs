//! The kubelet's decisions about one Pod: run plan, volumes, restarts, probes, status.
