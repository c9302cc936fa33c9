//! `cargo xtask demo --local`: what Monopod does with no cluster, shown on examples/. First a Pod in a microVM, then the
//! decisions about a whole shop.
//!
//! Everything that runs does so in a network namespace and in folders of its own, which are gone when the demo ends,
//! also when it fails.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::process::{cache_folder, cargo, run};
use crate::workspace::Workspace;
use crate::{guest, image};

use super::place::Place;

/// Builds everything, runs a Pod and looks at it from all sides, explains the other examples, says what to try next.
///
/// # Errors
/// When something does not build, or the Pod does not do what this demo promises.
pub(crate) fn run_all(workspace: &Workspace) -> Result<()> {
    run(cargo().args(["build", "--locked", "--release", "-p", "monopod"]), super::BUILD_LIMIT)?;
    guest::build(workspace, false)?;
    image::write(workspace)?;
    let program = workspace.target.join("release/monopod");
    let archive = cache_folder()?.join("images/web.tar");
    let place = Place::new(workspace, program.clone())?;
    show_pod(&place, &archive)?;
    show_decisions(&place)?;
    drop(place);
    say_what_next(&program, &archive);
    Ok(())
}

fn show_pod(place: &Place, archive: &std::path::Path) -> Result<()> {
    println!("\nA web server in a microVM of its own. Its manifest is an ordinary one: examples/web.yaml.");
    let archive = archive.to_str().context("the cache folder has a name that is no text")?;
    place.monopod(&["run", "examples/web.yaml", "--detach", "--publish", "8080:8080", "--image-archive", archive])?;
    // The server has been started; that it listens already is not said.
    let patience = ["--retry", "60", "--retry-all-errors", "--retry-delay", "1", "--max-time", "60"];
    let curl = ["curl", "--silent", "--fail"];
    let page = place.shown(&[curl.as_slice(), &patience, &["http://127.0.0.1:8080/"]].concat())?;
    if !page.contains("microVM of its own") {
        bail!("the Pod's page says something else: {page}");
    }
    println!("\nIt has a kernel of its own. The Pod's, then this machine's:");
    let theirs = place.monopod(&["exec", "web", "--", "uname", "-r"])?;
    let ours = place.shown(&["uname", "-r"])?;
    if theirs == ours {
        bail!("the Pod runs on this machine's kernel, {ours}");
    }
    println!("\nWhat it was sold, and what it sees of it:");
    place.monopod(&["ps"])?;
    place.monopod(&["exec", "web", "--", "sh", "-c", "nproc; free -m"])?;
    println!("\nIts log, and its orderly end:");
    place.monopod(&["logs", "web", "--tail", "5"])?;
    place.monopod(&["stop", "web"])?;
    place.monopod(&["rm", "web"])?;
    Ok(())
}

fn show_decisions(place: &Place) -> Result<()> {
    for (file, code, says) in [
        (
            "examples/shop.yaml",
            0,
            "An ordinary shop. Which profile takes each of its Pods, and how big their microVMs will be:",
        ),
        ("examples/refused.yaml", 1, "Pods that cannot run in a microVM, each with everything that stands against it:"),
    ] {
        println!("\n{says}");
        place.monopod_with(&["explain", "-f", file, "--profiles", "examples/profiles.yaml"], code)?;
    }
    Ok(())
}

fn say_what_next(program: &std::path::Path, archive: &std::path::Path) {
    let folder: PathBuf = program.parent().unwrap_or(program).to_path_buf();
    let archive = archive.display();
    println!("\nThe demo has removed all that it started. Try it yourself, as root:\n");
    println!("  export PATH={}:$PATH", folder.display());
    println!("  monopod run examples/web.yaml -p 8080:8080 --image-archive {archive}");
    println!("  monopod ps; monopod exec -it web -- sh          # from another terminal");
    println!("  monopod explain -f YOUR.yaml --profiles examples/profiles.yaml\n");
}
