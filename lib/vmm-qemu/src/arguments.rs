//! QEMU's arguments as a pure function of what a VM is.
//!
//! What a template was saved with and what it is restored with must be the same machine: the same devices in the same
//! order. Both come from here, and [`Shape`] is all that may differ between two templates.

#[cfg(test)]
mod tests;

use std::path::Path;

use monopod_types::MiB;

use crate::config::Accelerator;

/// Name of the agent's port; the guest finds it by this.
const AGENT_PORT: &str = "monopod.agent";

/// The hub between the guest's network card and the tap.
pub(crate) const HUB: u32 = 0;

/// Bytes of the guest kernel's words that are kept.
pub(crate) const CONSOLE_BYTES: u32 = 64 << 10;

/// Where things are inside the jail.
pub(crate) mod inside {
    /// The guest's kernel.
    pub(crate) const KERNEL: &str = "/guest/vmlinuz";
    /// The guest's initial file system.
    pub(crate) const INITRD: &str = "/guest/initrd";
    /// The folder of a template.
    pub(crate) const TEMPLATE: &str = "/template";
    /// The guest's memory in that folder.
    pub(crate) const MEMORY: &str = "/template/memory";
    /// The state of its devices in that folder.
    pub(crate) const STATE: &str = "/template/state";
}

/// What the guest sees of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) accelerator: Accelerator,
    pub(crate) vcpus: u64,
    pub(crate) memory: MiB,
}

/// How the guest gets going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From the kernel, with memory of its own.
    Boot,
    /// From the kernel, with its memory in a file that becomes a template.
    MakeTemplate,
    /// From a template: its memory is that file, of which it has private copies of what it changes.
    Restore,
}

/// What is the same for all VMs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program<'a> {
    pub(crate) qemu: &'a Path,
    pub(crate) kernel_parameters: &'a str,
}

/// A file descriptor that the process inherits, by its place in the list handed to the jail; see
/// [`jail`](crate::jail).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inherited(pub(crate) usize);

impl std::fmt::Display for Inherited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{fd{}}}", self.0)
    }
}

/// The open files that QEMU is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Channels {
    pub(crate) control: Inherited,
    pub(crate) agent: Inherited,
    /// The KVM device, which the process' user may not open.
    pub(crate) kvm: Option<Inherited>,
}

/// The whole command line.
pub(crate) fn arguments(program: &Program<'_>, shape: Shape, origin: Origin, channels: Channels) -> Vec<String> {
    let mut line = vec![program.qemu.to_string_lossy().into_owned()];
    let mut add = |words: &[&str]| line.extend(words.iter().map(|word| (*word).to_owned()));
    // Nothing that was not asked for, and no instruction before we say so.
    let accelerator = shape.accelerator;
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-S"]);
    add(&["-machine", MACHINE]);
    match accelerator {
        Accelerator::Kvm => {
            let device = channels.kvm.map(|device| format!("fd={device},set=0")).unwrap_or_default();
            add(&["-add-fd", &device, "-accel", "kvm,device=/dev/fdset/0"]);
        }
        Accelerator::Tcg => add(&["-accel", &format!("tcg,tb-size={TRANSLATIONS}")]),
    }
    add(&["-cpu", cpu(accelerator), "-smp", &shape.vcpus.to_string(), "-m", &format!("{}M", shape.memory.0)]);
    add(&["-object", &memory(shape.memory, origin)]);
    match origin {
        Origin::Boot | Origin::MakeTemplate => {
            add(&["-kernel", inside::KERNEL, "-initrd", inside::INITRD, "-append", program.kernel_parameters]);
        }
        Origin::Restore => add(&["-incoming", "defer"]),
    }
    // A guest that ends is kept, stopped, until it has been asked for its last words.
    add(&["-action", "reboot=shutdown,shutdown=pause"]);
    add(&["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
    let Channels { control, agent, kvm: _ } = channels;
    add(&["-chardev", &format!("socket,id=control,fd={control},server=on,wait=off")]);
    add(&["-mon", "chardev=control,mode=control"]);
    add(&["-device", "virtio-serial-pci,id=serial,max_ports=2"]);
    add(&["-chardev", &format!("ringbuf,id=console,size={CONSOLE_BYTES}"), "-device", "virtconsole,chardev=console"]);
    add(&["-chardev", &format!("socket,id=agent,fd={agent},server=on,wait=off")]);
    add(&["-device", &format!("virtserialport,chardev=agent,name={AGENT_PORT}")]);
    add(&["-device", "virtio-scsi-pci,id=scsi"]);
    // A hub, into which the tap is plugged when there is one: a process that waits for a VM has none yet.
    add(&["-netdev", &format!("hubport,id=net,hubid={HUB}")]);
    // Its own boot program is of no use. The address is the agent's business, since a template's would be everybody's.
    add(&["-device", "virtio-net-pci,id=card,netdev=net,romfile=,mac=52:54:00:00:00:01"]);
    add(&["-object", "rng-builtin,id=random", "-device", "virtio-rng-pci,rng=random"]);
    // Changes with every start, upon which the guest's kernel renews its random numbers by itself.
    add(&["-device", "vmgenid,guid=auto"]);
    line
}

const MACHINE: &str = "q35,memory-backend=memory,usb=off,smbus=off,sata=off,hpet=off,vmport=off,smm=off,\
                       mem-merge=off,dump-guest-core=off";

/// Most MiB of translated code that are kept.
const TRANSLATIONS: u32 = 128;

fn cpu(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "host",
        Accelerator::Tcg => "max",
    }
}

fn memory(size: MiB, origin: Origin) -> String {
    let MiB(size) = size;
    let file = inside::MEMORY;
    match origin {
        Origin::Boot => format!("memory-backend-ram,id=memory,size={size}M"),
        Origin::MakeTemplate => format!("memory-backend-file,id=memory,size={size}M,mem-path={file},share=on"),
        Origin::Restore => {
            format!("memory-backend-file,id=memory,size={size}M,mem-path={file},share=off,readonly=on,rom=off")
        }
    }
}
