//! Splits a text into its documents, so that an error in one does not hide those of the next.
//!
//! YAML documents part at lines that begin with `---`, JSON documents simply follow each other; both as kubectl
//! reads them.

use crate::tree::Place;

/// One document of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    /// From 1; documents without content count.
    pub(crate) number: usize,
    /// Lines of the text before the document's first.
    pub(crate) lines_before: u64,
    /// Characters before the document's first on its line.
    pub(crate) columns_before: u64,
    /// The document, with the `---` that opens it.
    pub(crate) text: &'a str,
}

impl<'a> Document<'a> {
    /// The word or number that stands at a place of the file, as it was written; `None` where there is neither, such as
    /// before a quoted text.
    pub(crate) fn plain_scalar(&self, place: Place) -> Option<&'a str> {
        let line = usize::try_from(place.line.checked_sub(self.lines_before + 1)?).ok()?;
        let columns_before = if line == 0 { self.columns_before } else { 0 };
        let column = usize::try_from(place.column.checked_sub(columns_before + 1)?).ok()?;
        let text = self.text.lines().nth(line)?;
        let (start, _) = text.char_indices().nth(column)?;
        let rest = text.get(start..)?;
        let is_inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_' | ':');
        let end = rest.find(|c| !is_inside(c)).unwrap_or(rest.len());
        rest.get(..end).filter(|scalar| !scalar.is_empty())
    }
}

/// The documents of a text, in order.
pub(crate) fn documents(text: &str) -> Vec<Document<'_>> {
    let starts = if text.trim_start().starts_with('{') { json_starts(text) } else { yaml_starts(text) };
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let pieces = starts.iter().copied().zip(ends).filter_map(|(start, end)| Some((start, text.get(start..end)?)));
    let mut documents: Vec<Document<'_>> = Vec::new();
    let (mut lines_before, mut counted) = (0, 0);
    for (start, piece) in pieces {
        let passed = text.get(counted..start).unwrap_or_default();
        lines_before += count(passed.matches('\n').count());
        counted = start;
        let line_start = text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
        let columns_before = count(text.get(line_start..start).unwrap_or_default().chars().count());
        documents.push(Document { number: documents.len() + 1, lines_before, columns_before, text: piece });
    }
    documents
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Byte offsets of the lines that begin with `---`, and of the text before the first unless that is empty.
fn yaml_starts(text: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let opens =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if opens || offset == 0 {
            starts.push(offset);
        }
        offset += line.len();
    }
    match starts.as_slice() {
        [first, second, ..] if !has_content(text.get(*first..*second).unwrap_or_default()) => starts.split_off(1),
        _ => starts,
    }
}

/// Whether a piece of YAML holds more than blank lines and comments.
fn has_content(piece: &str) -> bool {
    piece.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Byte offsets at which JSON values start; what follows the last readable value stays with the last start.
fn json_starts(text: &str) -> Vec<usize> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    let mut starts = vec![0];
    while let Some(Ok(_)) = values.next() {
        let end = values.byte_offset();
        if text.get(end..).is_some_and(|rest| !rest.trim().is_empty()) {
            starts.push(end);
        }
    }
    starts
}
