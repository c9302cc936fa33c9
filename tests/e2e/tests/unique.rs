//! What the daemon tells each guest to be. That guests then are it, real ones show in bin/monopod.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use monopod_e2e::client::{Run, until_finished};
use monopod_e2e::fake::Stage;
use monopod_e2e::pods::pod;
use monopod_testkit::guest::Script;
use monopod_testkit::wait::wait_for;
use tonic::Code;

const GUESTS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vm_two_hundred_guests_are_told_to_be_different() -> Result<()> {
    let stage = Stage::new()?;
    let daemon = stage.daemon().await?;
    let (mut entropy, mut machine_ids) = (BTreeSet::new(), BTreeSet::new());
    for number in 0..GUESTS {
        let name = format!("pod-{number}");
        let guest = stage.guest(&format!("uid-{name}"));
        guest.script("main", Script::runs().exits(0));
        let run = if number == 0 {
            stage.run(pod(&name, "Never"))
        } else {
            Run { pod: pod(&name, "Never"), ..Run::default() }
        };
        let before = SystemTime::now().duration_since(UNIX_EPOCH)?;
        until_finished(&mut daemon.client.run(run).await?).await?;
        let after = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let told = guest.personality().context("the guest was made a Pod's own")?;
        let clock = Duration::from_nanos(told.wall_clock);
        assert!(before <= clock && clock <= after, "{before:?} {clock:?} {after:?}");
        assert_eq!((told.entropy.len(), told.machine_id.len()), (64, 32));
        entropy.insert(told.entropy);
        machine_ids.insert(told.machine_id);
        daemon.client.remove(&name).await?;
    }
    assert_eq!((entropy.len(), machine_ids.len()), (GUESTS, GUESTS));
    Ok(())
}

#[tokio::test]
async fn vm_a_guest_that_cannot_be_made_unique_runs_nothing_and_is_ended() -> Result<()> {
    let stage = Stage::new()?;
    let daemon = stage.daemon().await?;
    let guest = stage.guest("uid-twin");
    guest.script("main", Script::runs());
    guest.fail_next("Personalize", Code::Internal, "GuestSystemFailed: failed to seed the random generator");
    let _news = daemon.client.run(stage.run(pod("twin", "Never"))).await?;
    wait_for("the guest was asked and its microVM has ended", async || {
        let (calls, running) = (guest.calls(), stage.machine.running());
        let was_asked = calls.iter().any(|call| call.starts_with("Personalize"));
        if was_asked && running.is_empty() { Ok(()) } else { Err(format!("{calls:?}, {running:?}")) }
    })
    .await;
    // Had it been started anew meanwhile, then it was asked anew as well.
    let calls = guest.calls();
    let after = calls.iter().skip_while(|call| !call.starts_with("Personalize")).skip(1);
    let until_asked_again: Vec<_> = after.take_while(|call| !call.starts_with("Personalize")).collect();
    assert!(until_asked_again.iter().all(|call| *call == "Hello" || *call == "Shutdown"), "{calls:?}");
    Ok(())
}
