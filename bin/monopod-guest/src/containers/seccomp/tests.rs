//! The filter against the table, and what it lets through.

use std::collections::HashSet;

use caps::{Capability, CapsHashSet};
use nix::libc;

use super::{absent, allowed, runtime_default, table};

fn capabilities(list: &[Capability]) -> CapsHashSet {
    list.iter().copied().collect()
}

fn is_allowed(number: i64, list: &[Capability]) -> bool {
    let capabilities = capabilities(list);
    allowed(&capabilities).unwrap().contains_key(&number) && !absent(&capabilities).contains_key(&number)
}

#[test]
fn the_filters_can_be_built_for_no_and_for_all_capabilities() {
    assert_eq!(runtime_default(&capabilities(&[])).unwrap().len(), 2);
    assert_eq!(runtime_default(&caps::all()).unwrap().len(), 2);
}

#[test]
fn no_number_is_listed_twice() {
    let mut seen = HashSet::new();
    assert!(table::ALWAYS.iter().all(|number| seen.insert(*number)));
}

#[test]
fn dangerous_calls_need_their_capability() {
    let pairs = [
        (libc::SYS_mount, Capability::CAP_SYS_ADMIN),
        (libc::SYS_unshare, Capability::CAP_SYS_ADMIN),
        (libc::SYS_bpf, Capability::CAP_BPF),
        (libc::SYS_init_module, Capability::CAP_SYS_MODULE),
        (libc::SYS_settimeofday, Capability::CAP_SYS_TIME),
        (libc::SYS_reboot, Capability::CAP_SYS_BOOT),
        (libc::SYS_syslog, Capability::CAP_SYSLOG),
        (libc::SYS_open_by_handle_at, Capability::CAP_DAC_READ_SEARCH),
    ];
    for (number, capability) in pairs {
        assert!(!is_allowed(number, &[]), "{number}");
        assert!(is_allowed(number, &[capability]), "{number}");
    }
}

#[test]
fn some_calls_are_for_nobody() {
    for number in
        [libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_kexec_load, libc::SYS_io_uring_setup, libc::SYS_swapon]
    {
        let everything: Vec<_> = caps::all().into_iter().collect();
        assert!(!is_allowed(number, &everything), "{number}");
    }
}

#[test]
fn threads_can_be_made_but_namespaces_cannot() {
    assert!(!is_allowed(libc::SYS_clone3, &[]), "its flags are out of sight, so it is as if absent");
    assert!(is_allowed(libc::SYS_clone3, &[Capability::CAP_SYS_ADMIN]));
    let rules = allowed(&capabilities(&[])).unwrap();
    assert_eq!(rules[&libc::SYS_clone].len(), 1, "clone has a condition");
    let rules = allowed(&capabilities(&[Capability::CAP_SYS_ADMIN])).unwrap();
    assert!(rules[&libc::SYS_clone].is_empty(), "clone is free with the capability");
}
