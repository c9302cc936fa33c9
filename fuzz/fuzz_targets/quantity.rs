//! Two quantities, one per line: what is read is exact, ordered and rounded up, whatever unit asks.

#![no_main]

use libfuzzer_sys::fuzz_target;
use monopod_types::{Bytes, Quantity};

fuzz_target!(|text: &str| {
    let (first, second) = text.split_once('\n').unwrap_or((text, ""));
    let (first, second) = (read(first), read(second));
    if let (Some(first), Some(second)) = (first, second) {
        check_sum(first, second);
    }
});

/// Reads one text in all the ways that must agree.
fn read(text: &str) -> Option<Quantity> {
    let quantity: Quantity = text.parse().ok()?;
    check_rounding(quantity);
    // Blanks around it do not count, as the API server trims them.
    let text = text.trim();
    assert_eq!(text.parse(), Ok(quantity), "blanks change nothing");
    if let Some(whole) = plain_number(text) {
        assert_eq!(quantity.to_bytes(), Bytes(whole), "a plain number is itself");
    }
    if !text.starts_with(['+', '-']) {
        let signed = |sign: char| format!("{sign}{text}").parse::<Quantity>();
        assert_eq!(signed('+'), Ok(quantity), "a plus changes nothing");
        assert_eq!(format!("0{text}").parse(), Ok(quantity), "a leading zero changes nothing");
        let negative = signed('-').expect("the text without a sign is a quantity");
        assert_eq!(negative + quantity, Quantity::ZERO, "a minus turns it round");
        assert_eq!(negative.is_negative(), quantity != Quantity::ZERO);
        assert_eq!(negative.to_mib().0, 0, "a negative amount counts as nothing");
        check_factor(text, quantity);
    }
    Some(quantity)
}

/// The value of a short text of digits alone, read by the standard library.
fn plain_number(text: &str) -> Option<u64> {
    (text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// A number without suffix, written again with one, is so many times as much, up to the cap.
fn check_factor(text: &str, quantity: Quantity) {
    if text.bytes().any(|byte| !byte.is_ascii_digit()) {
        return;
    }
    for (suffix, factor) in [("k", 1000), ("Ki", 1 << 10), ("M", 1_000_000), ("e3", 1000), ("Gi", 1 << 30)] {
        let scaled: Quantity = format!("{text}{suffix}").parse().expect("digits and a suffix are a quantity");
        let expected = Bytes(quantity.to_bytes().0.saturating_mul(factor)).min(Quantity::MAX.to_bytes());
        assert_eq!(scaled.to_bytes(), expected, "{suffix}");
    }
}

/// Every unit is the least number of units that holds the amount.
fn check_rounding(quantity: Quantity) {
    assert!(quantity <= Quantity::MAX);
    let bytes = quantity.to_bytes().0;
    assert_eq!(quantity.to_mib().0, bytes.div_ceil(1 << 20));
    assert_eq!(quantity.to_gib().0, bytes.div_ceil(1 << 30));
    let milli = quantity.rounded_up_to_milli();
    assert!(milli >= quantity);
    assert_eq!(milli.rounded_up_to_milli(), milli);
    assert_eq!(milli.to_milli_cpu(), quantity.to_milli_cpu());
    // Thousandths of the largest quantities are more than fit, and saturate.
    let thousandths = quantity.to_milli_cpu().0;
    assert!(thousandths == u64::MAX || thousandths.div_ceil(1000) == bytes, "a unit is a thousand thousandths");
}

/// Order and sum of quantities are those of their units.
fn check_sum(first: Quantity, second: Quantity) {
    let (less, more) = if first <= second { (first, second) } else { (second, first) };
    assert!(less.to_milli_cpu() <= more.to_milli_cpu());
    assert!(less.to_mib() <= more.to_mib());
    let sum = first + second;
    assert_eq!(sum, second + first);
    assert!(sum.to_bytes() <= first.to_bytes() + second.to_bytes());
    assert!(less.is_negative() || more <= sum);
}
