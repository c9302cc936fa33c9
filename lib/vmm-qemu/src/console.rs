//! The words of the guest's kernel: what of them is quoted when it ends.

/// Most characters that are quoted.
const MOST: usize = 1000;

/// Lines before the panic's own that are quoted with it.
const BEFORE: usize = 3;

/// How Linux begins its last line.
const PANIC: &str = "Kernel panic";

/// The last words in the output of a guest that restarted itself: the panic's message with what was said just before
/// it. The guest says what it likes here, so it is cut short and stripped of what a terminal would obey.
pub(crate) fn last_words(output: &str) -> Option<String> {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let panic = lines.iter().position(|line| line.contains(PANIC))?;
    let said = lines.iter().take(panic + 1).skip(panic.saturating_sub(BEFORE)).map(|line| without_time(line));
    // The message first, since it says most.
    let mut said: Vec<&str> = said.collect();
    said.rotate_right(1);
    let text = said.join("; ");
    Some(text.chars().filter(|letter| !letter.is_control()).take(MOST).collect())
}

/// A line without the seconds that the kernel writes in front: `[    5.980429] `.
fn without_time(line: &str) -> &str {
    line.strip_prefix('[').and_then(|line| line.split_once("] ")).map_or(line, |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use super::{MOST, last_words};

    #[test]
    fn the_panics_message_comes_first() {
        let output = "[    1.0] one\r\n[    2.0] two\r\n[    3.0] sysrq: Trigger a crash\r\n\
                      [    3.1] Kernel panic - not syncing: sysrq triggered crash\r\n[    3.2] CPU: 0 PID: 1\r\n";
        let words = last_words(output).unwrap();
        assert_eq!(words, "Kernel panic - not syncing: sysrq triggered crash; one; two; sysrq: Trigger a crash");
    }

    #[test]
    fn a_guest_without_a_panic_has_no_last_words() {
        assert_eq!(last_words("[ 1.0] reboot: Restarting system\n"), None);
        assert_eq!(last_words(""), None);
    }

    #[test]
    fn words_are_bounded_and_harmless_on_a_terminal() {
        let words = last_words(&format!("Kernel panic \x1b[31m{}", "x".repeat(100_000))).unwrap();
        assert_eq!(words.chars().count(), MOST);
        assert!(words.starts_with("Kernel panic [31mx"));
    }
}
