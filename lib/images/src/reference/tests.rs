//! References as users write them.

use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn short_names_are_completed() {
    for (written, complete) in [
        ("web", "docker.io/library/web:latest"),
        ("web:1.2", "docker.io/library/web:1.2"),
        ("shop/web", "docker.io/shop/web:latest"),
        ("index.docker.io/web", "docker.io/library/web:latest"),
        ("docker.io/shop/web:a_b-c.d", "docker.io/shop/web:a_b-c.d"),
        ("localhost/web", "localhost/web:latest"),
        ("localhost:5000/web:1", "localhost:5000/web:1"),
        ("registry.example.com/a/b/c:1", "registry.example.com/a/b/c:1"),
        ("[2001:db8::1]:5000/web", "[2001:db8::1]:5000/web:latest"),
        ("Registry/web", "Registry/web:latest"),
        ("web-a__b.c---d", "docker.io/library/web-a__b.c---d:latest"),
    ] {
        assert_eq!(written.parse::<Reference>().unwrap().to_string(), complete, "{written}");
    }
}

#[test]
fn a_digest_wins_over_a_tag() {
    let both: Reference = format!("shop/web:1@{DIGEST}").parse().unwrap();
    assert_eq!(both.to_string(), format!("docker.io/shop/web@{DIGEST}"));
}

#[test]
fn messages_have_a_reference_as_it_was_written() {
    let (short, long): (Reference, Reference) =
        ("web".parse().unwrap(), "docker.io/library/web:latest".parse().unwrap());
    assert_eq!((&short, short.written()), (&long, "web"));
    let error = crate::ImageError::NeverPull { reference: short };
    assert_eq!(error.to_string(), "Container image \"web\" is not present with pull policy of Never");
    let error = crate::Images::reference("Web").unwrap_err();
    let words = "Failed to apply default image tag \"Web\": couldn't parse image name \"Web\"";
    assert_eq!((error.reason(), error.to_string().as_str()), ("InvalidImageName", words));
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(cause.unwrap(), "invalid reference format: repository name (library/Web) must be lowercase");
}

#[test]
fn what_is_no_reference_is_named() {
    use ReferenceError::{Digest, Format, Identifier, TooLong, UpperCase};
    let long = format!("a/{}", "b".repeat(256));
    let identifier = "a".repeat(64);
    for (written, error) in [
        ("", Format),
        (":1", Format),
        ("web:", Format),
        ("web:-1", Format),
        ("web/", Format),
        ("a//b", Format),
        ("-web", Format),
        ("we b", Format),
        ("web\n", Format),
        ("a___b", Format),
        ("a._b", Format),
        ("../etc", Format),
        ("registry.example.com:/web", Format),
        ("registry.example.com:x/web", Format),
        ("https://registry.example.com/web", Format),
        ("Web", UpperCase("library/Web".to_owned())),
        ("shop/Web", UpperCase("shop/Web".to_owned())),
        ("web@sha256:12", Digest),
        ("web@md5:e3b0c44298fc1c149afbf4c8996fb924", Digest),
        (&long, TooLong),
        (&identifier, Identifier(identifier.clone())),
    ] {
        assert_eq!(written.parse::<Reference>(), Err(error), "{written:?}");
    }
}

proptest! {
    #[test]
    fn a_complete_reference_reads_as_itself(text in "[a-zA-Z0-9./:@_-]{1,60}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
        }
    }

    #[test]
    fn no_reference_leaves_its_repository(text in ".{0,80}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert!(!reference.path().split('/').any(|part| part.is_empty() || part.starts_with('.')));
            prop_assert!(!reference.to_string().contains(char::is_whitespace));
        }
    }
}
