//! `make demo`: what Monopod does, shown on examples/.

use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, run};
use crate::workspace::Workspace;

/// Building the program from nothing.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Builds the program, explains the examples, says what to try next.
///
/// # Errors
/// When the program does not build, or an example is not explained as its name promises.
pub(crate) fn run_all(workspace: &Workspace) -> Result<()> {
    run(cargo().args(["build", "--locked", "--release", "-p", "monopod"]), BUILD_LIMIT)?;
    let program = workspace.target.join("release/monopod");
    for (file, code, says) in [
        ("examples/shop.yaml", 0, "An ordinary shop. Nothing in its manifests knows of microVMs."),
        ("examples/refused.yaml", 1, "Pods that cannot run in a microVM, each with everything that stands against it."),
    ] {
        let command = format!("monopod explain -f {file} --profiles examples/profiles.yaml");
        println!("\n{says}\n$ {command}\n");
        let mut explain = Command::new(&program);
        explain.current_dir(&workspace.root).args(command.split(' ').skip(1));
        let status: ExitStatus = explain.status().with_context(|| format!("failed to run {}", program.display()))?;
        if status.code() != Some(code) {
            bail!("{file} ended with {status}, not with exit code {code}");
        }
    }
    println!("\nTry it on manifests of your own:\n");
    println!("  export PATH={}:$PATH", program.parent().unwrap_or(&program).display());
    println!("  monopod explain -f YOUR.yaml --profiles examples/profiles.yaml");
    println!(
        "  kubectl get deployments,statefulsets,jobs,cronjobs,pvc,pv,sa -A -o yaml | monopod explain -f - --profiles examples/profiles.yaml\n"
    );
    Ok(())
}
