//! Errors, warnings and notes as the user sees them, on standard error.

use std::error::Error;
use std::fmt::Display;
use std::io::Write;

use anstyle::{AnsiColor, Style};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const NOTE: Style = AnsiColor::Cyan.on_default().bold();

/// Prints an error with everything that led to it.
pub(crate) fn error(error: &(dyn Error + 'static)) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        text.push_str(": ");
        text.push_str(&current.to_string());
        cause = current.source();
    }
    print(ERROR, "error", &text);
}

/// Prints something that is probably a mistake.
pub(crate) fn warning(text: &str) {
    print(WARNING, "warning", &text);
}

/// Prints something that is good to know.
pub(crate) fn note(text: &str) {
    print(NOTE, "note", &text);
}

/// One prefix per line. Where standard error is gone, nobody is left to be told.
fn print(style: Style, prefix: &str, text: &dyn Display) {
    let mut stderr = anstream::stderr().lock();
    for line in text.to_string().lines() {
        let _ = writeln!(stderr, "{style}{prefix}{style:#}: {line}");
    }
}
