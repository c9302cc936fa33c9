//! Scratch disks of Pods.
