//! What a registry wants to see: nothing, a user and password, or a token from a place that it names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;

use super::{Endpoint, body, in_time, refusal};
use crate::credentials::Login;
use crate::digest::shortened;
use crate::error::ImageError;
use crate::limits::Limits;
use std::time::Duration;

/// What a `WWW-Authenticate` header asks for. A token is preferred, as other clients do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Token { realm: String, service: Option<String>, scope: Option<String> },
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Challenge {
    /// Reads the header; none when it asks for nothing that we know.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let challenges = http_auth::parse_challenges(header).ok()?;
        let is =
            |scheme: &'static str| move |one: &&http_auth::ChallengeRef<'_>| one.scheme.eq_ignore_ascii_case(scheme);
        if let Some(bearer) = challenges.iter().find(is("bearer")) {
            let parameter = |name: &str| {
                let found = bearer.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            let (service, scope) = (parameter("service"), parameter("scope"));
            return parameter("realm").map(|realm| Self::Token { realm, service, scope });
        }
        challenges.iter().find(is("basic")).map(|_| Self::Basic)
    }
}

/// The header that answers a challenge; none when there is no login to answer it with.
pub(super) async fn answer(
    endpoint: &Endpoint,
    challenge: &Challenge,
    repository: &str,
    login: Option<&Login>,
    limits: &Limits,
    stall: Duration,
) -> Result<Option<HeaderValue>, ImageError> {
    match (challenge, login) {
        (Challenge::Basic, None) => Ok(None),
        (Challenge::Basic, Some(login)) => Ok(Some(basic(login))),
        (Challenge::Token { realm, service, scope }, login) => {
            let usual = format!("repository:{repository}:pull");
            let url = token_url(endpoint, realm, service.as_deref(), scope.as_deref().unwrap_or(&usual), login)?;
            let mut request = endpoint.client.get(url.clone());
            if let Some(login) = login {
                request = request.header(AUTHORIZATION, basic(login));
            }
            let mut response = in_time(stall, &url, request.send()).await?;
            if matches!(response.status().as_u16(), 400 | 401 | 403) {
                return Ok(None);
            }
            if !response.status().is_success() {
                return Err(refusal(response, limits, stall).await);
            }
            let bytes = body(&mut response, "token answer", limits.answer, stall).await?;
            let token = token_of(&bytes).ok_or_else(|| ImageError::Protocol {
                host: shortened(url.host_str().unwrap_or_default()),
                problem: "no usable token in its answer".to_owned(),
            })?;
            Ok(Some(token))
        }
    }
}

/// Where to ask for a token. A password goes there, so it must be as well protected as the registry itself.
fn token_url(
    endpoint: &Endpoint,
    realm: &str,
    service: Option<&str>,
    scope: &str,
    login: Option<&Login>,
) -> Result<Url, ImageError> {
    let host = endpoint.server.url.host_str().unwrap_or_default().to_owned();
    let refused = |problem: String| ImageError::Protocol { host: host.clone(), problem };
    let mut url = Url::parse(realm).map_err(|_| refused(format!("its realm is no URL: {}", shortened(realm))))?;
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && endpoint.server.url.scheme() == "http");
    if !is_safe || url.host_str().is_none() {
        return Err(refused(format!("its realm is no HTTPS URL: {}", shortened(realm))));
    }
    let mut query = url.query_pairs_mut();
    if let Some(service) = service {
        query.append_pair("service", service);
    }
    for one in scope.split(' ').filter(|one| !one.is_empty()) {
        query.append_pair("scope", one);
    }
    if let Some(login) = login {
        query.append_pair("account", &login.user);
    }
    drop(query);
    Ok(url)
}

/// The header with the token of an answer; none when there is none, or one that no header can hold.
pub(crate) fn token_of(body: &[u8]) -> Option<HeaderValue> {
    let Token { token, access_token } = serde_json::from_slice(body).ok()?;
    let token = if token.is_empty() { access_token } else { token };
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    (!token.is_empty()).then_some(header)
}

fn basic(login: &Login) -> HeaderValue {
    let text = STANDARD.encode(format!("{}:{}", login.user, login.password));
    let mut header = HeaderValue::from_str(&format!("Basic {text}")).expect("base64 fits into a header");
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_preferred_and_its_place_is_read() {
        let token = |realm: &str, service: Option<&str>| {
            let (realm, service) = (realm.to_owned(), service.map(ToOwned::to_owned));
            Some(Challenge::Token { realm, service, scope: None })
        };
        for (header, challenge) in [
            ("Basic realm=\"a\"", Some(Challenge::Basic)),
            ("Bearer realm=\"https://a/t\",service=\"s \\\" q\"", token("https://a/t", Some("s \" q"))),
            ("Basic realm=\"a\", Bearer realm=\"https://a/t\"", token("https://a/t", None)),
            ("BEARER REALM=\"https://a/t\"", token("https://a/t", None)),
            ("Bearer service=\"a\"", None),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(header), challenge, "{header}");
        }
    }

    #[test]
    fn a_token_that_no_header_can_hold_is_none() {
        for body in
            ["{\"token\":\"a\\nb\"}", "{\"token\":\"\"}", "{}", "[]", "{\"token\":1}", "", "{\"token\":\"\\u0000\"}"]
        {
            assert_eq!(token_of(body.as_bytes()), None, "{body}");
        }
        assert_eq!(token_of(b"{\"access_token\":\"a\"}").unwrap(), "Bearer a");
        assert_eq!(token_of(b"{\"token\":\"b\",\"access_token\":\"a\"}").unwrap(), "Bearer b");
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(header in ".{0,200}") {
            let _ = Challenge::parse(&header);
            let _ = token_of(header.as_bytes());
        }
    }
}
