//! The machine that a Pod gets, as the parts of the host need it.

use monopod_policy::sizing::{Shape, Size};
use monopod_types::{Bytes, GiB, MiB, MilliCpu};

/// CPU, memory and disk of one Pod's microVM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineShape {
    /// CPU time per time; the microVM has as many whole processors as hold it.
    pub cpu: MilliCpu,
    /// Memory of the whole machine.
    pub memory: MiB,
    /// Scratch disk: writable layers and emptyDir volumes.
    pub scratch: GiB,
}

/// The machine for a size that [`monopod_policy::sizing::size`] gave.
pub fn machine_shape(size: &Size) -> MachineShape {
    MachineShape { cpu: size.shape.cpu, memory: size.shape.memory, scratch: size.ephemeral }
}

impl MachineShape {
    /// Whole processors that hold the CPU; at least one.
    pub fn processors(self) -> u64 {
        self.cpu.0.div_ceil(1000).max(1)
    }

    pub(super) fn shape(self) -> Shape {
        Shape { cpu: self.cpu, memory: self.memory }
    }

    pub(super) fn memory_bytes(self) -> Bytes {
        self.memory.into()
    }
}
