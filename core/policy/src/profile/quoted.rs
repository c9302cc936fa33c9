//! Names and patterns inside a sentence.

use std::fmt::{self, Display, Write};

/// Prints a text between backticks and escapes what would break the line or the quotes, so that a reason stays one line
/// whatever a manifest holds.
pub(super) struct Quoted<T>(pub(super) T);

impl<T: Display> Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('`')?;
        write!(Escaped(f), "{}", self.0)?;
        f.write_char('`')
    }
}

/// Passes text on with control characters and backticks escaped.
struct Escaped<'f, 'buffer>(&'f mut fmt::Formatter<'buffer>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '`' => self.0.write_str("\\`")?,
                _ if letter.is_control() => write!(self.0, "{}", letter.escape_default())?,
                _ => self.0.write_char(letter)?,
            }
        }
        Ok(())
    }
}
