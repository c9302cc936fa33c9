//! Quantities against the documented grammar, by example and against arithmetic on decimal strings.

use proptest::prelude::*;

use super::{Quantity, QuantityError};
use crate::units::{Bytes, GiB, MiB, MilliCpu};

const SUFFIXES: [(&str, i32, u32); 16] = [
    ("n", -9, 0),
    ("u", -6, 0),
    ("m", -3, 0),
    ("", 0, 0),
    ("k", 3, 0),
    ("M", 6, 0),
    ("G", 9, 0),
    ("T", 12, 0),
    ("P", 15, 0),
    ("E", 18, 0),
    ("Ki", 0, 1),
    ("Mi", 0, 2),
    ("Gi", 0, 3),
    ("Ti", 0, 4),
    ("Pi", 0, 5),
    ("Ei", 0, 6),
];

fn nanos(text: &str) -> i128 {
    parse(text).nanos
}

fn parse(text: &str) -> Quantity {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn every_suffix_has_its_value() {
    for (text, expected) in [
        ("1n", 1),
        ("1u", 1_000),
        ("1m", 1_000_000),
        ("1", 1_000_000_000),
        ("1k", 1_000_000_000_000),
        ("1M", 1_000_000_000_000_000),
        ("1G", 1_000_000_000_000_000_000),
        ("1T", 1_000_000_000_000_000_000_000),
        ("1P", 1_000_000_000_000_000_000_000_000),
        ("1E", 1_000_000_000_000_000_000_000_000_000),
        ("1Ki", 1_024_000_000_000),
        ("1Mi", 1_048_576_000_000_000),
        ("1Gi", 1_073_741_824_000_000_000),
        ("1Ti", 1_099_511_627_776_000_000_000),
        ("1Pi", 1_125_899_906_842_624_000_000_000),
        ("1Ei", 1_152_921_504_606_846_976_000_000_000),
    ] {
        assert_eq!(nanos(text), expected, "{text}");
    }
}

#[test]
fn spellings_of_the_same_amount_are_equal() {
    for (text, same) in [
        ("+1", "1"),
        ("0001", "1"),
        (" 1", "1"),
        ("1Gi\n", "1Gi"),
        ("1.", "1"),
        ("1.000", "1"),
        (".5", "500m"),
        ("+.5e-3", "500u"),
        ("5.Mi", "5Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        ("1e3", "1k"),
        ("1E3", "1k"),
        ("1e+3", "1k"),
        ("1E-3", "1m"),
        ("1e0", "1"),
        ("1E", "1e18"),
        ("12345.678e2", "1234567800m"),
        ("0e999999999999999999999", "0"),
        ("-0", "0"),
        ("0Ei", "0"),
    ] {
        assert_eq!(parse(text), parse(same), "{text} and {same}");
    }
}

#[test]
fn an_amount_finer_than_a_billionth_is_rounded_up_away_from_zero() {
    for (text, expected) in [
        ("0.1n", 1),
        ("1.1n", 2),
        ("1e-10", 1),
        ("1e-999999999999999999999", 1),
        ("0.0000000001", 1),
        ("1.0000000001", 1_000_000_001),
        ("-0.1n", -1),
        // 0.0000000001 × 1024 is 102.4 billionths.
        ("0.0000000001Ki", 103),
    ] {
        assert_eq!(nanos(text), expected, "{text}");
    }
}

#[test]
fn an_amount_above_the_largest_is_capped_there() {
    assert_eq!(parse("9223372036854775807"), Quantity::MAX);
    assert!(parse("9223372036854775806") < Quantity::MAX);
    let digits = "9".repeat(400);
    for text in ["9223372036854775807.1", "8Ei", "10E", "1e19", "1e999999999999999999999", &digits] {
        assert_eq!(parse(text), Quantity::MAX, "{text}");
        assert_eq!(parse(&format!("-{text}")).nanos, -Quantity::MAX.nanos, "-{text}");
    }
}

#[test]
fn a_negative_amount_is_read_and_says_so() {
    for text in ["-1", "-1m", "-.5Gi", "-1e3"] {
        assert!(parse(text).is_negative(), "{text}");
    }
    for text in ["0", "-0", "1n"] {
        assert!(!parse(text).is_negative(), "{text}");
    }
}

#[test]
fn conversions_round_up() {
    for (text, milli) in [("250m", 250), ("0.1", 100), ("1", 1000), ("100u", 1), ("1000001n", 2), ("0", 0), ("-1", 0)] {
        assert_eq!(parse(text).to_milli_cpu(), MilliCpu(milli), "{text}");
    }
    for (text, bytes, mib, gib) in [
        ("1Gi", 1 << 30, 1024, 1),
        ("1.5Gi", 1536 << 20, 1536, 2),
        ("750M", 750_000_000, 716, 1),
        ("1Mi", 1 << 20, 1, 1),
        ("1048577", 1_048_577, 2, 1),
        ("100m", 1, 1, 1),
        ("0", 0, 0, 0),
        ("-1Gi", 0, 0, 0),
    ] {
        let quantity = parse(text);
        assert_eq!(
            (quantity.to_bytes(), quantity.to_mib(), quantity.to_gib()),
            (Bytes(bytes), MiB(mib), GiB(gib)),
            "{text}"
        );
    }
}

#[test]
fn the_largest_amount_converts_without_wrapping() {
    assert_eq!(Quantity::MAX.to_milli_cpu(), MilliCpu(u64::MAX));
    assert_eq!(Quantity::MAX.to_bytes(), Bytes(i64::MAX.unsigned_abs()));
    assert_eq!(Quantity::MAX.to_mib(), MiB(1 << 43));
}

#[test]
fn the_api_server_s_rounding_to_a_thousandth_goes_up() {
    for (text, rounded) in [("1n", "1m"), ("1m", "1m"), ("1.0001", "1001m"), ("0", "0"), ("-1n", "0"), ("8Ei", "8Ei")] {
        assert_eq!(parse(text).rounded_up_to_milli(), parse(rounded), "{text}");
    }
}

#[test]
fn a_wrong_text_is_told_what_is_wrong_with_it() {
    assert_eq!("".parse::<Quantity>(), Err(QuantityError::Empty));
    for text in ["+", "-", ".", "Mi", "e3", "- 1", "--1", "+-1", "one", "١", "-Gi"] {
        assert_eq!(text.parse::<Quantity>(), Err(QuantityError::NoNumber), "{text}");
    }
    for (text, suffix) in [
        ("1mi", "mi"),
        ("1K", "K"),
        ("1GB", "GB"),
        ("1MiB", "MiB"),
        ("1 Gi", " Gi"),
        ("1Gi x", "Gi x"),
        ("1e", "e"),
        ("1E+", "E+"),
        ("1e3.5", "e3.5"),
        ("1e+-3", "e+-3"),
        ("1Ee3", "Ee3"),
        ("1Ki3", "Ki3"),
        ("1.2.3", ".3"),
        ("1,5", ",5"),
        ("1µ", "µ"),
        ("0x10", "x10"),
        ("1_000", "_000"),
        ("1abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnop"),
    ] {
        let error = text.parse::<Quantity>().expect_err(text);
        assert_eq!(error, QuantityError::UnknownSuffix { suffix: suffix.into() }, "{text}");
        assert!(error.to_string().contains(&format!("{suffix:?}")), "{error}");
    }
}

/// The model: the digits as a text, multiplied as one does it on paper, cut at the decimal point.
mod paper {
    /// `digits * factor + carry`, the most significant digit first.
    fn multiply(digits: &str, factor: u64, mut carry: u64) -> String {
        let mut product = String::new();
        for digit in digits.bytes().rev() {
            let value = u64::from(digit - b'0') * factor + carry;
            product.insert_str(0, &(value % 10).to_string());
            carry = value / 10;
        }
        carry.to_string() + &product
    }

    /// Billionths, rounded up and not capped, as a decimal text.
    pub(super) fn nanos(whole: &str, fraction: &str, power_of_ten: i32, power_of_1024: u32) -> String {
        let mut digits = format!("{whole}{fraction}");
        for _ in 0..power_of_1024 {
            digits = multiply(&digits, 1024, 0);
        }
        let places = i32::try_from(fraction.len()).unwrap() - power_of_ten - 9;
        if places <= 0 {
            return digits + &"0".repeat(usize::try_from(-places).unwrap());
        }
        let places = usize::try_from(places).unwrap();
        let padded = "0".repeat(places) + &digits;
        let (integer, dropped) = padded.split_at(padded.len() - places);
        multiply(integer, 1, u64::from(dropped.bytes().any(|digit| digit != b'0')))
    }
}

fn number() -> impl Strategy<Value = (String, Option<String>)> {
    ("[0-9]{0,24}", proptest::option::of("[0-9]{0,40}")).prop_filter("a number has a digit", |(whole, fraction)| {
        !whole.is_empty() || fraction.as_ref().is_some_and(|digits| !digits.is_empty())
    })
}

fn suffix() -> impl Strategy<Value = (String, i32, u32)> {
    let named = proptest::sample::select(&SUFFIXES[..]).prop_map(|(text, ten, binary)| (text.to_owned(), ten, binary));
    let exponent = (proptest::sample::select(vec!["e", "E"]), proptest::sample::select(vec!["", "+"]), -60..60)
        .prop_map(|(mark, plus, power)| (format!("{mark}{}{power}", if power < 0 { "" } else { plus }), power, 0));
    prop_oneof![named, exponent]
}

proptest! {
    #[test]
    fn a_quantity_is_what_paper_arithmetic_says(
        sign in proptest::sample::select(vec!["", "+", "-"]),
        (whole, fraction) in number(),
        (suffix, power_of_ten, power_of_1024) in suffix(),
    ) {
        let point = fraction.as_ref().map_or(String::new(), |digits| format!(".{digits}"));
        let expected = paper::nanos(&whole, fraction.as_deref().unwrap_or(""), power_of_ten, power_of_1024);
        let capped = expected.trim_start_matches('0').parse::<i128>().map_or_else(
            |_| if expected.bytes().all(|digit| digit == b'0') { 0 } else { Quantity::MAX.nanos },
            |nanos| nanos.min(Quantity::MAX.nanos),
        );
        let signed = if sign == "-" { -capped } else { capped };
        prop_assert_eq!(nanos(&format!("{sign}{whole}{point}{suffix}")), signed);
    }

    #[test]
    fn a_count_of_billionths_comes_back_as_it_was(count in -9_000_000_000_000_000_000_000_000_000_i128..9_000_000_000_000_000_000_000_000_000) {
        prop_assert_eq!(nanos(&format!("{count}n")), count);
        let (whole, fraction) = (count / 1_000_000_000, (count % 1_000_000_000).abs());
        let sign = if count < 0 && whole == 0 { "-" } else { "" };
        prop_assert_eq!(nanos(&format!("{sign}{whole}.{fraction:09}")), count);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,64}") {
        let _ = text.parse::<Quantity>();
    }

    #[test]
    fn no_text_of_the_grammar_s_characters_makes_the_parser_panic(text in "[+-]?[0-9.]{0,40}[eEinumkKMGTP]{0,3}[+-]?[0-9]{0,24}") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            prop_assert!(quantity <= Quantity::MAX);
        }
    }
}
