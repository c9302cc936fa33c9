//! Waiting for conditions.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a condition may take to come true; generous, for slow machines.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition holds, and returns what it found. Until then it says what it sees.
///
/// # Panics
/// When it does not hold within [`PATIENCE`]; the message has the last status.
pub async fn wait_for<T>(what: &str, mut condition: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match condition().await {
            Ok(found) => return found,
            Err(status) => assert!(Instant::now() < deadline, "waited in vain: {what}: {status}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until a condition that says nothing holds.
///
/// # Panics
/// When it does not hold within [`PATIENCE`].
pub async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::wait_for;

    #[tokio::test]
    async fn a_condition_is_asked_until_it_holds() {
        let asked = Cell::new(0);
        let found = wait_for("the third time", async || {
            asked.set(asked.get() + 1);
            if asked.get() == 3 { Ok(asked.get()) } else { Err(format!("asked {} times", asked.get())) }
        });
        assert_eq!(found.await, 3);
    }
}
