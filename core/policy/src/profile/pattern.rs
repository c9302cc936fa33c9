//! Text patterns of selectors: `*` stands for any run of characters, also none, and `?` for exactly one character.
//!
//! There is no other syntax and no escape. Source: AWS EKS user guide, Fargate profile wildcards.

use std::fmt;
use std::str::Chars;

/// A pattern for a namespace, a label key or a label value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// Bytes before the first wildcard; the whole length when there is none.
    prefix: usize,
}

impl Pattern {
    /// Every text is a pattern.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let prefix = text.find(['*', '?']).unwrap_or(text.len());
        Self { text, prefix }
    }

    /// What every matching text begins with.
    pub(super) fn literal_prefix(&self) -> &str {
        &self.text[..self.prefix]
    }

    /// Whether the pattern covers the whole of `text`. Allocates nothing; at worst takes the product of both lengths.
    pub fn matches(&self, text: &str) -> bool {
        if self.prefix == self.text.len() {
            return self.text == text;
        }
        text.strip_prefix(self.literal_prefix()).is_some_and(|rest| glob(&self.text[self.prefix..], rest))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Walks pattern and text side by side. After a mismatch the last `*` takes one more character, and the walk goes on
/// behind it. Earlier stars need no second try: the last one can take whatever they would have taken more.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut last_star: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let mut pattern_rest = pattern.clone();
        let mut text_rest = text.clone();
        let advanced = match (pattern_rest.next(), text_rest.next()) {
            // A star at the end takes all that is left, without a walk.
            (Some('*'), _) if pattern_rest.as_str().is_empty() => return true,
            (Some('*'), _) => {
                last_star = Some((pattern_rest.clone(), text.clone()));
                pattern = pattern_rest;
                continue;
            }
            (Some(wanted), Some(found)) => wanted == '?' || wanted == found,
            (None, None) => return true,
            // A longer star leaves even less text.
            (Some(_), None) => return false,
            (None, Some(_)) => false,
        };
        if advanced {
            (pattern, text) = (pattern_rest, text_rest);
            continue;
        }
        let Some((behind_star, star_end)) = &mut last_star else { return false };
        star_end.next();
        (pattern, text) = (behind_star.clone(), star_end.clone());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Pattern;

    #[test]
    fn wildcards_are_star_and_question_mark_and_nothing_else() {
        let rows = [
            ("shop", "shop", true, "a pattern without wildcards is the text itself"),
            ("shop", "shop-1", false, "a pattern covers the whole text, not its beginning"),
            ("shop", "Shop", false, "case matters"),
            ("", "", true, "nothing matches nothing"),
            ("", "shop", false, "nothing matches only nothing"),
            ("*", "", true, "a star may be no character"),
            ("*", "shop", true, "a star may be all characters"),
            ("prod-*", "prod-", true, "a star may be no character at the end"),
            ("prod-*", "prod-eu-1", true, "a star at the end"),
            ("prod-*", "prod", false, "the text before a star must be there"),
            ("*-prod", "shop-prod", true, "a star at the beginning"),
            ("*-prod", "shop-prod-2", false, "the text behind a star must end the text"),
            ("a*c", "abbbc", true, "a star in the middle"),
            ("a*b*c", "axbxbxc", true, "several stars"),
            ("a*b*c", "axcxb", false, "stars keep the order of what stands between them"),
            ("a**c", "ac", true, "stars side by side are one"),
            ("?", "", false, "a question mark is not nothing"),
            ("?", "a", true, "a question mark is one character"),
            ("?", "ab", false, "a question mark is not two characters"),
            ("shop-?", "shop-1", true, "a question mark at the end"),
            ("?hop", "shop", true, "a question mark at the beginning"),
            ("s??p", "shop", true, "question marks side by side"),
            ("?*", "", false, "star and question mark together need one character"),
            ("*?", "ab", true, "star and question mark in either order"),
            ("*a?", "aaab", true, "a star takes more when what follows fits only later"),
            ("a.c", "abc", false, "a full stop is itself"),
            ("[ab]", "a", false, "brackets are themselves"),
            ("{a,b}", "a", false, "braces are themselves"),
            ("a\\*", "a\\b", true, "a backslash escapes nothing"),
            ("?", "ü", true, "a question mark is one character, whatever its bytes"),
            ("??", "ü", false, "bytes are not characters"),
            ("*ß?", "größe", true, "text beyond ASCII"),
        ];
        for (pattern, text, expected, fact) in rows {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{fact}: `{pattern}` on `{text}`");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = Pattern::new("*a".repeat(2_000) + "b");
        assert!(!pattern.matches(&"a".repeat(4_000)));
    }

    /// The meaning of the two wildcards, written down as plainly as can be.
    fn model(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', behind @ ..], _) => (0..=text.len()).any(|taken| model(behind, &text[taken..])),
            (['?', behind @ ..], [_, rest @ ..]) => model(behind, rest),
            ([wanted, behind @ ..], [found, rest @ ..]) => wanted == found && model(behind, rest),
            ([], [_, ..]) | ([_, ..], []) => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn matching_agrees_with_the_recursive_model(pattern in "[ab*?ü]{0,8}", text in "[abü]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(Pattern::new(&*pattern).matches(&text), model(&chars(&pattern), &chars(&text)));
        }

        #[test]
        fn a_text_matches_itself_with_any_parts_replaced_by_wildcards(
            text in "\\PC{0,20}",
            masks in prop::collection::vec(0..3usize, 20),
        ) {
            let pattern: String =
                text.chars().zip(masks).map(|(letter, mask)| [letter, '?', '*'][mask]).collect();
            prop_assert!(Pattern::new(pattern).matches(&text));
        }
    }
}
