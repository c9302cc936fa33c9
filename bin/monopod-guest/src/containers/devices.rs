//! Which devices containers may open: a small program that the kernel asks, for the cgroup that holds them all.
//!
//! A container may make device nodes of any kind, if it has the capability, but open only the harmless ones: nothing,
//! zeroes, full, randomness, its terminals. The machine's disks are not among them.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;

use super::sys;

/// One instruction of eBPF, as the kernel reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// `dst = *(u32 *)(src + offset)`
const LOAD_WORD: u8 = 0x61;
const SHIFT_RIGHT: u8 = 0x77;
const AND: u8 = 0x57;
const MOVE: u8 = 0xbf;
const SET: u8 = 0xb7;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_DIFFERENT: u8 = 0x55;
const EXIT: u8 = 0x95;

const RESULT: u8 = 0;
const QUESTION: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Access that only makes a node.
const MAKE_NODE: i32 = 1;
const CHARACTER: i32 = 2;
/// Minor numbers of major 1 (null, zero, full, random, urandom) and 5 (tty, console, ptmx).
const MEMORY: (i32, &[i32]) = (1, &[3, 5, 7, 8, 9]);
const TERMINALS: (i32, &[i32]) = (5, &[0, 1, 2]);
/// Major number of terminals made on demand.
const PSEUDO_TERMINALS: i32 = 136;

/// Makes the cgroup of all containers, with the rule in force.
///
/// # Errors
/// When the kernel refuses the cgroup or the program.
pub(super) fn guard(cgroup: &Path) -> Result<(), Errno> {
    let io = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    fs::create_dir_all(cgroup).map_err(io)?;
    let folder = File::open(cgroup).map_err(io)?;
    sys::attach_device_program(folder.as_fd(), &program())
}

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, immediate }
}

/// The rule. Asked with kind and access in one word, then major and minor number; answers 1 for yes.
fn program() -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, ACCESS, QUESTION, 0, 0),
        instruction(MOVE, KIND, ACCESS, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, QUESTION, 4, 0),
        instruction(LOAD_WORD, MINOR, QUESTION, 8, 0),
    ];
    let allow = [instruction(SET, RESULT, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)];
    // Each rule is a test that is jumped over, and an answer.
    program.push(instruction(JUMP_DIFFERENT, ACCESS, 0, 2, MAKE_NODE));
    program.extend(allow);
    let deny = [instruction(SET, RESULT, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)];
    program.push(instruction(JUMP_EQUAL, KIND, 0, 2, CHARACTER));
    program.extend(deny);
    program.push(instruction(JUMP_DIFFERENT, MAJOR, 0, 2, PSEUDO_TERMINALS));
    program.extend(allow);
    for (major, minors) in [MEMORY, TERMINALS] {
        for minor in minors {
            program.push(instruction(JUMP_DIFFERENT, MAJOR, 0, 3, major));
            program.push(instruction(JUMP_DIFFERENT, MINOR, 0, 2, *minor));
            program.extend(allow);
        }
    }
    program.extend(deny);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would get as an answer.
    fn answer(access: i32, kind: i32, major: i32, minor: i32) -> bool {
        let question = [access << 16 | kind, major, minor];
        let mut registers = [0; 6];
        let program = program();
        let mut at = 0;
        loop {
            let Instruction { code, registers: names, offset, immediate } = program[at];
            let (to, from) = (usize::from(names & 15), usize::from(names >> 4));
            at += 1;
            let mut jump = |taken: bool| at += if taken { usize::try_from(offset).unwrap() } else { 0 };
            match code {
                LOAD_WORD => registers[to] = question[usize::try_from(offset).unwrap() / 4],
                MOVE => registers[to] = registers[from],
                AND => registers[to] &= immediate,
                SHIFT_RIGHT => registers[to] >>= immediate,
                SET => registers[to] = immediate,
                JUMP_EQUAL => jump(registers[to] == immediate),
                JUMP_DIFFERENT => jump(registers[to] != immediate),
                EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    const BLOCK: i32 = 1;
    const READ: i32 = 2;
    const WRITE: i32 = 4;

    #[test]
    fn any_node_may_be_made_but_only_harmless_ones_opened() {
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, 0), (136, 77)] {
            assert!(answer(READ | WRITE, CHARACTER, major, minor), "{major}:{minor}");
            assert!(!answer(READ, BLOCK, major, minor), "block {major}:{minor}");
        }
        for (kind, major, minor) in
            [(BLOCK, 8, 0), (CHARACTER, 1, 1), (CHARACTER, 1, 0), (CHARACTER, 10, 183), (CHARACTER, 5, 3)]
        {
            assert!(answer(MAKE_NODE, kind, major, minor), "{major}:{minor}");
            assert!(!answer(READ, kind, major, minor), "{major}:{minor}");
            assert!(!answer(READ | MAKE_NODE, kind, major, minor), "{major}:{minor}");
        }
    }
}
