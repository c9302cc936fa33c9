//! The file of registries.

use super::*;

fn urls(text: &str, domain: &str) -> Vec<String> {
    let servers = Registries::parse(text).unwrap().servers(domain);
    servers.iter().map(|server| server.url.to_string()).collect()
}

#[test]
fn without_a_file_registries_are_where_their_names_say() {
    for (domain, url) in [
        ("docker.io", "https://registry-1.docker.io/"),
        ("registry.example.com", "https://registry.example.com/"),
        ("registry.example.com:5000", "https://registry.example.com:5000/"),
        ("localhost:5000", "http://localhost:5000/"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/"),
        ("[::1]:5000", "http://[::1]:5000/"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000/"),
    ] {
        assert_eq!(urls("{}", domain), [url], "{domain}");
    }
}

#[test]
fn mirrors_are_asked_before_the_registry() {
    let text = "
registries:
  docker.io:
    mirrors:
      - url: https://mirror.example.com/hub/
        ca: /etc/ca.pem
      - url: http://10.0.0.1:5000
  '*':
    mirrors:
      - url: https://all.example.com
    mirrorsOnly: true
  registry.example.com:
    server:
      url: https://other.example.com
      clientCertificate: /etc/cert.pem
      clientKey: /etc/key.pem
  plain.example.com:
    server:
      skipVerify: true
";
    let hub = ["https://mirror.example.com/hub", "http://10.0.0.1:5000/", "https://registry-1.docker.io/"];
    assert_eq!(urls(text, "docker.io"), hub);
    assert_eq!(urls(text, "quay.example.com"), ["https://all.example.com/"]);
    assert_eq!(urls(text, "registry.example.com"), ["https://other.example.com/"]);
    assert_eq!(urls(text, "plain.example.com"), ["https://plain.example.com/"]);
    let servers = Registries::parse(text).unwrap().servers("plain.example.com");
    assert!(servers[0].skip_verify && !servers[0].is_mirror);
}

#[test]
fn what_the_file_cannot_mean_is_an_error() {
    for (text, words) in [
        ("registry: {}", "registry"),
        ("registries: {a: {mirror: []}}", "mirror"),
        ("registries: {a: {mirrors: [{ca: x}]}}", "needs a url"),
        ("registries: {a: {mirrors: [{url: mirror}]}}", "mirrors[0].url"),
        ("registries: {a: {mirrors: [{url: 'ftp://mirror'}]}}", "http:// or https://"),
        ("registries: {a: {mirrors: [{url: 'https://me:pw@mirror'}]}}", "pull secrets"),
        ("registries: {a: {mirrors: [{url: 'http://mirror', ca: x}]}}", "plain http://"),
        ("registries: {a: {server: {clientKey: x}}}", "belong together"),
        ("registries: {a: {mirrorsOnly: true}}", "nobody to ask"),
        ("registries: {'*': {server: {url: 'https://a'}}}", "is a mirror"),
        ("registries: {'*': {server: {skipVerify: true}}}", "only mirrors"),
    ] {
        let error = Registries::parse(text).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}
