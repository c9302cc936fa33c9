//! Whole lives, told by scripts under `golden/`. A changed answer is a changed file: with MONOPOD_BLESS=1 the tests write
//! the files anew, to be read before they are committed.

use std::path::Path;

use super::script::play;

/// Plays a script and compares what it says with what it is to say.
#[expect(clippy::disallowed_methods, reason = "a test reads and writes its own expectations")]
fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/life/tests/golden").join(format!("{name}.txt"));
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let found = play(&expected);
    if found == expected {
        return;
    }
    if std::env::var_os("MONOPOD_BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
        return;
    }
    let lines = found.lines().zip(expected.lines()).enumerate();
    let first = lines.into_iter().find(|(_, (found, expected))| found != expected);
    let place =
        first.map(|(line, (found, expected))| format!("line {}:\n  is     {found}\n  was to {expected}", line + 1));
    panic!("{name}: {}", place.unwrap_or_else(|| "other length".to_owned()));
}

macro_rules! scripts {
    ($($claim:ident => $name:literal,)*) => {
        $(
            #[test]
            fn $claim() {
                check($name);
            }
        )*
    };
}

scripts! {
    a_plain_pod_starts_serves_and_stops => "plain",
    a_crashing_container_is_backed_off_from => "crash",
    init_containers_run_in_order_and_sidecars_outlive_the_main_ones => "sidecars",
    a_failed_init_container_fails_a_pod_that_never_restarts => "init-failed",
    an_image_that_is_missing_is_asked_for_again => "image",
    a_job_ends_with_its_container => "job",
    probes_decide_about_readiness_and_restarts => "probes",
    hooks_hold_up_the_start_and_the_stop => "hooks",
    a_failed_post_start_hook_kills_its_container => "post-start-failed",
    a_pod_past_its_deadline_fails => "deadline",
    an_evicted_pod_fails_at_once => "evicted",
    a_lost_microvm_fails_its_pod => "vm-gone",
    a_stop_during_boot_cancels_the_boot => "stop-during-boot",
    setup_is_tried_again => "setup",
    an_ephemeral_container_never_restarts => "ephemeral",
    rules_restart_one_container_or_all => "rules",
    containers_that_cannot_start_are_tried_again => "start-failed",
    readiness_gates_hold_back_the_pod => "gates",
    a_new_image_restarts_its_container => "new-image",
    sidecars_wait_with_their_end_and_restart_for_their_health => "sidecar-stop",
    a_crashing_init_container_is_backed_off_from => "init-crash",
    a_probe_that_does_not_work_condemns_nobody => "unhealthy-never",
    an_unhealthy_container_that_never_restarts_ends_its_pod => "unhealthy-once",
    grace_can_be_shortened_and_ends_with_a_kill => "grace",
}
