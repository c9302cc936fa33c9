//! Places at which a test can have a daemon killed, as `kill -9` would: between one stage of a start and the next.
//!
//! The variable [`VARIABLE`] names the place. Builds without debug assertions, which are those that are released, have none.

/// Names the place at which the process is to be killed.
pub const VARIABLE: &str = "MONOPOD_FAULT_POINT";

/// A place. Does nothing unless it is the one that [`VARIABLE`] names.
#[inline]
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    if std::env::var_os(VARIABLE).is_some_and(|wanted| wanted == name) {
        // Nothing runs after it, so there is no error to tell.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::{VARIABLE, point};

    #[test]
    fn only_the_place_that_is_named_kills() {
        // The process under test is this test itself, started once more.
        if std::env::var_os("FAULTS_CHILD").is_some() {
            point("one");
            return;
        }
        let run = |place: &str| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "tests::only_the_place_that_is_named_kills"]);
            command.env("FAULTS_CHILD", "1").env(VARIABLE, place).output().unwrap().status
        };
        assert!(run("another").success());
        assert_eq!(run("one").signal(), Some(9));
    }
}
