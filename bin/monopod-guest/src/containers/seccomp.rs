//! The seccomp filter of `RuntimeDefault`: a list of what is allowed, in the spirit of the common runtimes' default.
//!
//! What a capability is needed for is allowed with that capability only. Everything else fails with EPERM, except for
//! calls that are newer than this list: they fail with ENOSYS, so that programs fall back to what they did before.
//! 32-bit programs are not served: their calls have other numbers, and the filter ends a process that makes one.

mod table;

use std::collections::BTreeMap;

use caps::{Capability, CapsHashSet};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// The first system call number that the table knows nothing of.
const FIRST_UNKNOWN: i64 = 463;
/// The last one that x86-64 may give out before the numbers of the x32 interface.
const LAST_UNKNOWN: i64 = 511;
/// Flags of clone(2) that make namespaces.
const NAMESPACE_FLAGS: u64 = 0x7E02_0000;
/// Execution domains that personality(2) may set or ask for.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// A filter that could not be put together, which would be a mistake of this module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("failed to build the seccomp filter")]
    Build(#[from] seccompiler::BackendError),
}

/// The programs to install, in this order. A call must pass all of them.
pub(crate) fn runtime_default(capabilities: &CapsHashSet) -> Result<Vec<BpfProgram>, FilterError> {
    let errno = |error: i32| SeccompAction::Errno(error.unsigned_abs());
    let (allow, arch) = (SeccompAction::Allow, TargetArch::x86_64);
    let unknown = SeccompFilter::new(absent(capabilities), allow.clone(), errno(libc::ENOSYS), arch)?;
    let allowed = SeccompFilter::new(allowed(capabilities)?, errno(libc::EPERM), allow, arch)?;
    Ok(vec![unknown.try_into()?, allowed.try_into()?])
}

/// Calls that are answered as if the kernel did not have them.
fn absent(capabilities: &CapsHashSet) -> Rules {
    let mut rules: Rules = (FIRST_UNKNOWN..=LAST_UNKNOWN).map(|number| (number, Vec::new())).collect();
    // Its flags are in memory, where a filter cannot look. C libraries fall back to clone(2).
    if !capabilities.contains(&Capability::CAP_SYS_ADMIN) {
        rules.insert(libc::SYS_clone3, Vec::new());
    }
    rules
}

fn allowed(capabilities: &CapsHashSet) -> Result<Rules, FilterError> {
    let mut rules = Rules::new();
    let mut allow = |numbers: &[i64]| {
        for number in numbers {
            rules.insert(*number, Vec::new());
        }
    };
    allow(table::ALWAYS);
    for (capability, numbers) in table::WITH_CAPABILITY {
        if capabilities.contains(capability) {
            allow(numbers);
        }
    }
    // Decided by the other program already.
    allow(&[libc::SYS_clone3]);
    allow(&(FIRST_UNKNOWN..=LAST_UNKNOWN).collect::<Vec<_>>());

    let argument = |operator, value| SeccompCondition::new(0, SeccompCmpArgLen::Qword, operator, value);
    let rule = |operator, value| SeccompRule::new(vec![argument(operator, value)?]);
    if !capabilities.contains(&Capability::CAP_SYS_ADMIN) {
        rules.insert(libc::SYS_clone, vec![rule(SeccompCmpOp::MaskedEq(NAMESPACE_FLAGS), 0)?]);
    }
    let vsock = u64::from(libc::AF_VSOCK.unsigned_abs());
    rules.insert(libc::SYS_socket, vec![rule(SeccompCmpOp::Ne, vsock)?]);
    let personalities = PERSONALITIES.iter().map(|domain| rule(SeccompCmpOp::Eq, *domain));
    rules.insert(libc::SYS_personality, personalities.collect::<Result<_, _>>()?);
    Ok(rules)
}

#[cfg(test)]
mod tests;
