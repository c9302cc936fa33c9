//! Archives that want out, or want too much.

use monopod_testkit::images::LayerBuilder;
use proptest::prelude::*;
use tar::EntryType;

use super::*;

/// What an archive must come to.
enum Outcome {
    /// Refused, with these words.
    Refused(&'static str),
    /// Taken, and this is in the image.
    Inside(&'static str),
}

use Outcome::{Inside, Refused};

fn check(cases: Vec<(&str, LayerBuilder, Outcome)>) {
    for (name, layer, outcome) in cases {
        let place = Place::new();
        let result = place.apply(layer);
        assert!(place.is_untouched_outside(), "{name}");
        match outcome {
            Refused(words) => {
                let error = result.expect_err(name);
                assert!(format!("{error} {error:?}").contains(words), "{name}: {error} {error:?}");
            }
            Inside(path) => {
                result.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(place.path(path).symlink_metadata().is_ok(), "{name}: {path} is missing");
            }
        }
    }
}

#[test]
fn no_path_leads_out() {
    let up = || layer().symlink("up", "../../../../../../outside").symlink("out", "../outside");
    check(vec![
        ("absolute", layer().file("/etc/x", 0o644, b""), Refused("absolute")),
        ("upward", layer().file("../outside/x", 0o644, b""), Refused("\"..\"")),
        ("upward inside", layer().file("a/../x", 0o644, b""), Refused("\"..\"")),
        ("upward at the end", layer().folder("a/..", 0o755), Refused("\"..\"")),
        (
            "upward in a long name",
            layer().records(&[("path", b"../outside/x")]).file("a", 0o644, b""),
            Refused("\"..\""),
        ),
        ("a zero in a name", layer().records(&[("path", b"a\0b")]).file("a", 0o644, b""), Refused("no file can have")),
        ("over a link", up().file("up/x", 0o644, b""), Inside("outside/x")),
        ("over a link beside", up().file("out/x", 0o644, b""), Inside("outside/x")),
        ("over an absolute link", layer().symlink("a", "/").file("a/x", 0o644, b""), Inside("x")),
        ("over a link of links", up().symlink("b", "up").file("b/x", 0o644, b""), Inside("outside/x")),
        ("onto a link", up().symlink("s", "../outside/secret").file("s", 0o644, b"x"), Inside("s")),
        ("a folder over a link", up().folder("out", 0o777), Inside("out")),
        ("a device over a link", up().character_device("out/n", 0o666, 1, 3), Inside("outside/n")),
        (
            "links in a circle",
            layer().symlink("a", "b").symlink("b", "a").file("a/x", 0o644, b""),
            Refused("too many symbolic"),
        ),
        ("a whiteout over a link", up().whiteout("out/secret"), Inside("out")),
        ("an opaque folder over a link", up().opaque("out"), Inside("out")),
        ("a whiteout of nothing", layer().file("a/.wh.", 0o644, b""), Refused("names no file")),
        ("a whiteout of the folder", layer().file("a/.wh..", 0o644, b""), Refused("names no file")),
        ("a whiteout of what is above", layer().file("a/.wh...", 0o644, b""), Refused("names no file")),
        ("notes of a union file system", layer().file(".wh..wh.plnk/1", 0o644, b"").file("a", 0o644, b""), Inside("a")),
    ]);
}

#[test]
fn no_hard_link_leads_out() {
    let up = || layer().symlink("out", "../outside").symlink("secret", "../outside/secret");
    check(vec![
        ("absolute", layer().hard_link("x", "/etc/passwd"), Refused("outside")),
        ("upward", layer().hard_link("x", "../outside/secret"), Refused("outside")),
        ("over a link", up().hard_link("x", "out/secret"), Refused("not there")),
        // The link itself is linked, not what it names.
        ("to a link", up().hard_link("x", "secret").file("x", 0o644, b"x"), Inside("x")),
        ("to nothing", layer().hard_link("x", "y"), Refused("not there")),
        ("to itself", layer().file("x", 0o644, b"1").hard_link("x", "x"), Refused("itself")),
        ("to a folder", layer().folder("a", 0o755).hard_link("x", "a"), Refused("to a folder")),
        ("to the root", layer().hard_link("x", "."), Refused("to the root")),
    ]);
}

#[test]
fn what_no_image_has_is_refused() {
    let odd = |kind: u8| layer().entry(EntryType::new(kind), "x", "", 0o644, (0, 0), b"");
    let deep = "a/".repeat(21) + "x";
    let long = "a/".repeat(600);
    let wide = "n".repeat(256);
    let many = (0..501).fold(layer(), |layer, at| layer.file(&format!("f{at}"), 0o644, b""));
    let held: Vec<(&str, &[u8])> = vec![("comment", &[b'x'; 5000])];
    let mut broken = layer().file("x", 0o644, b"1").into_tar();
    broken[0] = b'y';
    check(vec![
        ("a file as root", layer().file(".", 0o644, b""), Refused("the root is a folder")),
        ("under a file", layer().file("a", 0o644, b"").file("a/b", 0o644, b""), Refused("is a file")),
        ("GNU sparse", odd(b'S'), Refused("sparse")),
        ("PAX sparse", layer().records(&[("GNU.sparse.major", b"1")]).file("x", 0o644, b""), Refused("sparse")),
        ("another kind", odd(b'V'), Refused("unknown kind")),
        ("too deep", layer().file(&deep, 0o644, b""), Refused("within each other")),
        (
            "too deep by links",
            layer().folder("a/a/a/a/a/a/a/a/a/a/a/a/a/a/a", 0o755).symlink("l", "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a").file(
                "l/b/b/b/b/b/b/x",
                0o644,
                b"",
            ),
            Refused("within each other"),
        ),
        ("too long", layer().file(&long, 0o644, b""), Refused("too long")),
        ("too long a name", layer().file(&wide, 0o644, b""), Refused("no file can have")),
        ("too many entries", many, Refused("more entries")),
        ("too much", layer().file("x", 0o644, &vec![0; (1 << 20) + 1]), Refused("more unpacked bytes")),
        ("too long a header", layer().records(&held).file("x", 0o644, b""), Refused("extended header")),
        (
            "too long a header in pieces",
            layer().records(&[("a", &[b'x'; 3000])]).records(&[("b", &[b'x'; 3000])]).file("x", 0o644, b""),
            Refused("extended header"),
        ),
        (
            "a broken record",
            layer().entry(EntryType::XHeader, "p", "", 0o644, (0, 0), b"99999999999999999999 a=b\n"),
            Refused("extended header is broken"),
        ),
        (
            "a record of no length",
            layer().entry(EntryType::XHeader, "p", "", 0o644, (0, 0), b"0 a=b\n"),
            Refused("extended header is broken"),
        ),
        (
            "a huge size",
            layer().records(&[("size", b"18446744073709551615")]).file("x", 0o644, b""),
            Refused("out of range"),
        ),
        (
            "more promised than there",
            layer().records(&[("size", b"999999")]).file("x", 0o644, b""),
            Refused("ends within"),
        ),
        ("a link to nowhere", layer().symlink("x", ""), Refused("no target")),
        ("no archive", layer().raw(&[b'x'; 512]), Refused("broken archive")),
        ("a wrong check sum", layer().raw(&broken), Refused("check sum")),
        ("bzip2", layer().raw(b"BZh91AY"), Refused("bzip2")),
    ]);
}

#[test]
fn a_bomb_is_no_larger_than_the_limit() {
    let tar = layer().file("x", 0o644, &vec![0; 64 << 20]).into_tar();
    let bomb = zstd::encode_all(tar.as_slice(), 3).unwrap();
    assert!(bomb.len() < 100_000);
    let place = Place::new();
    let error = apply_unpromised(&bomb, &place.root(), &limits()).unwrap_err();
    assert!(matches!(error, LayerError::TooMuch { .. }), "{error}");
    assert!(fs::metadata(place.path("x")).unwrap().len() <= limits().uncompressed);
}

#[test]
fn a_bomb_behind_the_archives_end_counts_too() {
    let tar = layer().raw(&[0; 1024]).raw(&vec![0; 8 << 20]).into_tar();
    let place = Place::new();
    let tree = Tree::open(&place.root()).unwrap();
    let mut budget = Budget::new(&limits(), Arc::default());
    let promise = Promise { digest: None, diff_id: Digest::of(&tar) };
    let error = unpack(tar.as_slice(), promise, &tree, &mut budget).unwrap_err();
    assert!(matches!(error, LayerError::TooMuch { .. }), "{error}");
}

/// Entries that get in each other's way as often as possible.
fn entries() -> impl Strategy<Value = Vec<(u8, String, String)>> {
    let name = prop_oneof![
        "[ab]",
        "[ab]/[ab]",
        "[ab]/[ab]/[ab]",
        "[ab]/\\.wh\\.[ab]",
        "[ab]/\\.wh\\.\\.wh\\.\\.opq",
        "\\.\\./outside/[ab]"
    ];
    let target = prop_oneof![
        "[ab]",
        "\\.\\./[ab]",
        "\\.\\./\\.\\./outside",
        "/",
        "\\.",
        "\\.\\.",
        "/[ab]/[ab]",
        "\\.\\./outside/secret"
    ];
    proptest::collection::vec((0_u8..6, name, target), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn nothing_outside_changes_whatever_the_entries(entries in entries()) {
        let place = Place::new();
        // One archive for each, so that one that is refused does not end the others.
        for (kind, path, target) in entries {
            let layer = match kind {
                0 => layer().file(&path, 0o644, b"x"),
                1 => layer().folder(&path, 0o755),
                2 | 3 => layer().symlink(&path, &target),
                4 => layer().hard_link(&path, &target),
                _ => layer().fifo(&path, 0o644),
            };
            let _ = place.apply(layer);
        }
        prop_assert!(place.is_untouched_outside());
    }
}
