//! References such as `$(NAME)` in commands, arguments, variables and paths (Kubernetes documentation, "Define dependent
//! environment variables").
//!
//! `$$` is one `$`; a reference to what is not known stays as it is written, and so does a `$` before anything else.

/// The text with its references replaced by what `value` knows of them.
pub fn expand_references(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            after
        } else if let Some((name, after)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match value(name) {
                Some(value) => expanded.push_str(&value),
                None => expanded.extend(["$(", name, ")"]),
            }
            after
        } else {
            expanded.push('$');
            after
        };
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::expand_references;

    #[test]
    fn references_expand_as_the_kubelet_expands_them() {
        let value = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "REFERENCE" => Some("$(A)".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "a"),
            ("-$(A)-$(A)-", "-a-a-"),
            ("$(EMPTY)", ""),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$(REFERENCE)", "$(A)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$$$$(A)", "$$(A)"),
            ("$A", "$A"),
            ("${A}", "${A}"),
            ("$", "$"),
            ("$$", "$"),
            ("cost: 5$", "cost: 5$"),
            ("$(A", "$(A"),
            ("$(A$(A)", "$(A$(A)"),
            ("$()", "$()"),
            ("$ä", "$ä"),
        ] {
            assert_eq!(expand_references(text, value), expected, "{text}");
        }
    }
}
