//! Which login is tried for which image.

use super::*;

fn users(places: &[&str], image: &str) -> Vec<String> {
    let mut credentials = Credentials::none();
    for place in places {
        credentials.add(place, Login { user: (*place).to_owned(), password: "x".to_owned() });
    }
    let reference: Reference = image.parse().unwrap();
    credentials.for_reference(&reference).into_iter().map(|login| login.user.clone()).collect()
}

#[test]
fn places_match_as_in_the_kubelet() {
    for (place, image, is_match) in [
        ("registry.example.com", "registry.example.com/a/b", true),
        ("https://registry.example.com/v2/", "registry.example.com/a/b", true),
        ("http://registry.example.com", "registry.example.com/a", true),
        ("registry.example.com/a", "registry.example.com/a/b", true),
        ("registry.example.com/a", "registry.example.com/ab", true),
        ("registry.example.com/b", "registry.example.com/a/b", false),
        ("registry.example.com:5000", "registry.example.com:5000/a", true),
        ("registry.example.com:5000", "registry.example.com/a", false),
        ("registry.example.com", "registry.example.com:5000/a", false),
        ("*.example.com", "registry.example.com/a", true),
        ("*.example.com", "a.b.example.com/a", false),
        ("*.example.com", "example.com/a", false),
        ("reg*y.*.com", "registry.example.com/a", true),
        ("*.*.com", "registry.example.com/a", true),
        ("r?gistry.example.com", "registry.example.com/a", true),
        ("other.example.com", "registry.example.com/a", false),
        ("https://index.docker.io/v1/", "web", true),
        ("index.docker.io", "docker.io/shop/web", true),
        ("docker.io", "web", true),
        ("docker.io/shop", "shop/web", true),
        ("docker.io/shop", "web", false),
        ("index.docker.io", "registry.example.com/web", false),
    ] {
        assert_eq!(!users(&[place], image).is_empty(), is_match, "{place} {image}");
    }
}

#[test]
fn the_more_specific_place_is_tried_first() {
    let places = ["registry.example.com", "registry.example.com/a/b", "registry.example.com/a"];
    let tried = users(&places, "registry.example.com/a/b/c");
    assert_eq!(tried, ["registry.example.com/a/b", "registry.example.com/a", "registry.example.com"]);
}

#[test]
fn both_forms_of_secrets_are_read() {
    let reference: Reference = "registry.example.com/a".parse().unwrap();
    let mut one = Credentials::none();
    one.add_docker_config_json(br#"{"auths":{"registry.example.com":{"auth":"bWU6YTpi"}}}"#).unwrap();
    assert_eq!(one.for_reference(&reference), [&Login { user: "me".to_owned(), password: "a:b".to_owned() }]);
    let mut other = Credentials::none();
    let json = br#"{"registry.example.com":{"username":"me","password":"a:b","email":"me@example.com"}}"#;
    other.add_dockercfg(json).unwrap();
    assert_eq!(one.for_reference(&reference), other.for_reference(&reference));
}

#[test]
fn a_bad_secret_is_refused_without_telling_it() {
    let bad: [&[u8]; 5] = [
        b"hunter2",
        br#"{"auths":{"a":"hunter2"}}"#,
        br#"{"auths":{"a":{"auth":"hunter2!"}}}"#,
        br#"{"auths":{"a":{"auth":"aHVudGVyMg=="}}}"#,
        br#"{"auths":"hunter2"}"#,
    ];
    for json in bad {
        let error = Credentials::none().add_docker_config_json(json).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        assert_eq!(error.reason(), "ErrImagePull");
    }
}

#[test]
fn a_password_does_not_show() {
    let login = Login { user: "me".to_owned(), password: "hunter2".to_owned() };
    assert!(!format!("{login:?}").contains("hunter2"));
}
