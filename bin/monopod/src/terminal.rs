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

/// Prints a line about what is going on.
pub(crate) fn progress(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Prints a line of the result.
pub(crate) fn print_line(text: &str) -> Result<(), crate::failure::Failure> {
    print_text(&format!("{text}\n"))
}

/// Prints a result.
pub(crate) fn print_text(text: &str) -> Result<(), crate::failure::Failure> {
    let mut stdout = anstream::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|source| crate::failure::Failure::Io { action: "failed to write the result".to_owned(), source })
}

/// Prints output of a Pod as it is; `false` when nobody reads it any more.
pub(crate) fn print_bytes(data: &[u8]) -> Result<bool, crate::failure::Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(data).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(crate::failure::Failure::Io { action: "failed to write the output".to_owned(), source }),
    }
}

/// One prefix per line. Where standard error is gone, nobody is left to be told.
fn print(style: Style, prefix: &str, text: &dyn Display) {
    let mut stderr = anstream::stderr().lock();
    for line in text.to_string().lines() {
        let _ = writeln!(stderr, "{style}{prefix}{style:#}: {line}");
    }
}

/// Columns and rows of the terminal of standard output, when it is one.
pub(crate) fn size() -> Option<(u16, u16)> {
    terminal_size::terminal_size().map(|(width, height)| (width.0, height.0))
}

/// Rows of words in columns as wide as they need.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = rows.iter().map(|row| row.get(column).map_or(0, |cell| cell.chars().count()));
            cells.chain([title.len()]).max().unwrap_or_default()
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("   ").trim_end())
    };
    let mut text = line(&mut header.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// A size as people read it: `12.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// A time span as kubectl shows ages: `42s`, `5m`, `3h`, `2d`.
pub(crate) fn age(span: std::time::Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{age, table};

    #[test]
    fn columns_are_as_wide_as_their_widest_word() {
        let rows = [vec!["web".to_owned(), "Running".to_owned()], vec!["a-long-name".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "STATUS"], &rows), "NAME          STATUS\nweb           Running\na-long-name\n");
    }

    #[test]
    fn ages_have_one_unit() {
        let ages = [5, 119, 120, 7_200, 172_800].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["5s", "119s", "2m", "2h", "2d"]);
    }
}
