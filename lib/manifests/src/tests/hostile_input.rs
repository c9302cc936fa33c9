//! No input makes the reader panic, run long or fill a terminal with control characters.

use proptest::prelude::*;

use super::errors;
use crate::{Purpose, Source, parse};

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(source) = Source::new("t.yaml", bytes) {
            let _ = parse(&[source], Purpose::Decide);
        }
    }

    /// Pieces that the grammar gives a meaning, in any order.
    #[test]
    fn arbitrary_pieces_of_manifests_never_panic(pieces in proptest::collection::vec(piece(), 0..40)) {
        let source = Source::new("t.yaml", pieces.concat().into_bytes()).unwrap();
        let _ = parse(&[source], Purpose::Decide);
    }

    #[test]
    fn no_error_carries_a_control_character_but_its_own_line_breaks(text in "[ -~\u{0}-\u{1f}]{0,60}") {
        let input = format!("apiVersion: monopod.dev/v1\nkind: {}\n", serde_json::to_string(&text).unwrap());
        let said = errors(&input);
        prop_assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
    }
}

fn piece() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "apiVersion: v1\n",
        "kind: Pod\n",
        "kind: List\n",
        "items:\n",
        "- ",
        "  ",
        "metadata: {name: a}\n",
        "---\n",
        "...\n",
        "spec:\n",
        "containers: [",
        "]",
        "{",
        "}",
        "&a ",
        "*a ",
        "<<: ",
        "!!binary ",
        "? ",
        ": ",
        "|\n",
        ">-\n",
        "'",
        "\"",
        "%YAML 1.2\n",
        "\t",
        "\r\n",
        "\u{feff}",
        "0x",
        "1e999",
        ".inf",
        "~",
        "é",
        "#",
        ", ",
    ])
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{},", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let expected =
        "t.yaml:6:10: document 1: YAML document too large or too complex: total_replayed_events=200001 > 200000";
    assert_eq!(errors(&bomb), expected);
}

#[test]
fn nesting_without_end_is_refused() {
    assert_eq!(errors(&"[".repeat(100_000)), "t.yaml:1:256: document 1: recursion limit exceeded");
    assert_eq!(
        errors(&format!("{{\"a\": {}", "[".repeat(100_000))),
        "t.yaml:1:261: document 1: recursion limit exceeded"
    );
}
