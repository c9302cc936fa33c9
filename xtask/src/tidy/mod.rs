//! The rules of the house that no compiler checks. Each check is a pure function from what it read to a list of
//! complaints; a complaint names the file, what is wrong and what to do.

mod core_purity;
mod layers;
mod modules;
mod named_tests;

use anyhow::{Result, bail};

use crate::codegen;
use crate::workspace::Workspace;

/// Runs every check and prints all complaints.
///
/// # Errors
/// When there is any complaint, or a file cannot be read.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut complaints = layers::complaints(&workspace.packages);
    complaints.extend(core_purity::complaints(workspace)?);
    complaints.extend(modules::complaints(workspace)?);
    complaints.extend(named_tests::complaints(workspace)?);
    complaints.extend(codegen::stale(workspace)?);
    for complaint in &complaints {
        println!("tidy: {complaint}");
    }
    match complaints.len() {
        0 => Ok(()),
        count => bail!("tidy found {count} things to mend"),
    }
}
