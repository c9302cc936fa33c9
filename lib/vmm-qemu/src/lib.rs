//! QEMU behind the `Vmm` trait: arguments, QMP, jail, templates, accelerator probe.
