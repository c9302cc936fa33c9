//! Clock, boot id, machine id, host name.

use std::fs;
use std::io;
use std::time::Duration;

use monopod_agent_proto::v1;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use super::{PersonalizeError, system};
use crate::paths::{MACHINE_ID, Paths};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Longest host name that the kernel takes.
const LONGEST_HOSTNAME: usize = 64;

/// Sets the wall clock. No time that the host could mean is before 2020: a zero is a mistake, not a wish.
pub(super) fn set_clock(nanoseconds: u64) -> Result<(), PersonalizeError> {
    const YEAR_2020: Duration = Duration::from_secs(1_577_836_800);
    let since_epoch = Duration::from_nanos(nanoseconds);
    if since_epoch < YEAR_2020 {
        return Err(invalid("wall clock", &nanoseconds.to_string()));
    }
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(since_epoch))
        .map_err(|error| system("set the clock")(io::Error::from(error)))
}

/// The boot id. The kernel makes it when it is first read, which is here, after the generator was seeded.
pub(super) fn boot_id() -> Result<String, PersonalizeError> {
    let text = fs::read_to_string(BOOT_ID).map_err(system("read the boot id"))?;
    let id = text.trim_end();
    if is_uuid(id) { Ok(id.to_owned()) } else { Err(invalid("boot id", id)) }
}

/// Sets host name and machine id, and writes /etc/hostname for the containers.
pub(super) fn take(request: &v1::PersonalizeRequest, paths: &Paths) -> Result<(), PersonalizeError> {
    let hostname = &request.hostname;
    if !is_hostname(hostname) {
        return Err(invalid("host name", hostname));
    }
    let machine_id = &request.machine_id;
    if !is_machine_id(machine_id) {
        return Err(invalid("machine id", machine_id));
    }
    nix::unistd::sethostname(hostname).map_err(|error| system("set the host name")(io::Error::from(error)))?;
    let file = paths.hostname();
    let folder = file.parent().unwrap_or_else(|| paths.root());
    fs::create_dir_all(folder).map_err(system("make the folder of the Pod's files"))?;
    fs::write(&file, format!("{hostname}\n")).map_err(system("write the host name"))?;
    fs::create_dir_all("/etc")
        .and_then(|()| fs::write(MACHINE_ID, format!("{machine_id}\n")))
        .map_err(system("write the machine id"))
}

fn invalid(what: &'static str, value: &str) -> PersonalizeError {
    PersonalizeError::Invalid { what, value: value.to_owned() }
}

/// Letters, digits, `-` and `.`, at most as many as the kernel takes.
pub(super) fn is_hostname(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    !name.is_empty() && name.len() <= LONGEST_HOSTNAME && name.bytes().all(legal)
}

/// 32 lower-case hex digits, not all zero.
pub(super) fn is_machine_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(is_lower_hex) && id.bytes().any(|byte| byte != b'0')
}

pub(super) fn is_uuid(id: &str) -> bool {
    let lengths: Vec<_> = id.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && id.bytes().all(|byte| byte == b'-' || is_lower_hex(byte))
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}
