//! A pattern and a text, one per line: the walk with its one step back agrees with a table of all parts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use monopod_policy::profile::Pattern;

/// Cells of the largest table that is filled. Beyond it only the time counts, which libFuzzer limits.
const LARGEST_TABLE: usize = 1 << 16;

fuzz_target!(|input: &str| {
    let (pattern, text) = input.split_once('\n').unwrap_or((input, ""));
    let matches = Pattern::new(pattern).matches(text);
    let (letters, characters): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
    if letters.len().saturating_mul(characters.len()) <= LARGEST_TABLE {
        assert_eq!(matches, model(&letters, &characters), "`{pattern}` on `{text}`");
    }
    assert!(Pattern::new(format!("*{pattern}*")).matches(text) || !matches, "stars around a match change nothing");
    assert_eq!(Pattern::new(pattern).to_string(), pattern);
});

/// Whether the pattern covers the text, from the answers for all beginnings of both.
fn model(pattern: &[char], text: &[char]) -> bool {
    // `covered[n]`: the pattern so far covers the first n characters.
    let mut covered = vec![false; text.len() + 1];
    covered[0] = true;
    for letter in pattern {
        let before = covered;
        covered = vec![false; text.len() + 1];
        covered[0] = *letter == '*' && before[0];
        for (place, character) in text.iter().enumerate() {
            covered[place + 1] = match letter {
                '*' => before[place + 1] || covered[place],
                '?' => before[place],
                _ => before[place] && letter == character,
            };
        }
    }
    covered[text.len()]
}
