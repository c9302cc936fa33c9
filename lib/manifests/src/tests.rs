//! Inputs as users write them, good and bad, through the whole crate.

mod bad_input;
mod files;
mod good_input;
mod hostile_input;
mod refused_input;

use crate::{Objects, Purpose, Source, parse};

/// A source called `t.yaml`.
fn source(text: &str) -> Source {
    Source::new("t.yaml", text.as_bytes().to_vec()).unwrap()
}

fn good(text: &str) -> Objects {
    parse(&[source(text)], Purpose::Decide).unwrap()
}

/// All warnings of a text that has no errors, one per line.
fn warnings(text: &str) -> String {
    let warnings = good(text).warnings;
    let lines: Vec<String> = warnings.iter().map(|found| format!("{} {}", found.origin, found.message)).collect();
    lines.join("\n")
}

/// All errors of a text, one per line.
fn errors(text: &str) -> String {
    parse(&[source(text)], Purpose::Decide).unwrap_err().to_string()
}

/// A Pod with a line of YAML more in its container.
fn pod_with(line: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: web\n    image: nginx\n    {line}\n"
    )
}
