//! Who calls, and whether they may: client certificates, bearer tokens, and what the API server says to both.
//!
//! ```text
//! certificate ───────────────────▶ User ──┐
//! token ──TokenReview (2 min)────▶ User ──┴─SubjectAccessReview─▶ allowed (5 min) or not (30 s)
//! ```
//!
//! The times are those for which the kubelet remembers answers. There is no anonymous user.

mod attributes;
mod cache;

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::header::{self, HeaderMap};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use sha2::{Digest as _, Sha256};

pub(crate) use attributes::{subresources, verb};
use cache::Cache;

/// How long a token is known for what it is.
const TOKEN_KNOWN: Duration = Duration::from_secs(2 * 60);
const ALLOWED_KNOWN: Duration = Duration::from_secs(5 * 60);
const DENIED_KNOWN: Duration = Duration::from_secs(30);
/// How long the API server has for an answer.
const REVIEW: Duration = Duration::from_secs(10);
const AUTHENTICATED: &str = "system:authenticated";

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    /// The name.
    pub name: String,
    /// The identity behind it, if any.
    pub uid: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Whatever else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user who has been authenticated is in a group for that.
    fn authenticated(mut self) -> Self {
        if !self.groups.iter().any(|group| group == AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}

/// What somebody wants to do with a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attributes {
    pub(crate) verb: &'static str,
    pub(crate) node: String,
    pub(crate) subresource: &'static str,
}

/// The API server did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// It refused the question or could not be reached.
    #[error("failed to ask the API server for a {what}")]
    Review {
        /// The kind of the question.
        what: &'static str,
        /// Why.
        source: Box<kube::Error>,
    },
    /// It took too long.
    #[error("the API server gave no {what} within {} s", REVIEW.as_secs())]
    Late {
        /// The kind of the question.
        what: &'static str,
    },
}

/// Asks the API server, and remembers what it said. One for all nodes of a process.
#[derive(Debug)]
pub struct Auth {
    client: Client,
    tokens: Cache<[u8; 32], Option<User>>,
    decisions: Cache<(User, Attributes), bool>,
}

/// A client, which shows nothing of itself.
struct Client(kube::Client);

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Client")
    }
}

impl Auth {
    /// Asks through a client, whose own user needs the right to create both kinds of reviews.
    pub fn new(client: kube::Client) -> Self {
        Self { client: Client(client), tokens: Cache::default(), decisions: Cache::default() }
    }

    /// Who calls, by the certificate of the connection, else by the token of the request. Nobody, if that is unknown.
    pub(crate) async fn authenticate(
        &self,
        certificate: Option<&User>,
        headers: &HeaderMap,
    ) -> Result<Option<User>, AuthError> {
        if let Some(user) = certificate {
            return Ok(Some(user.clone().authenticated()));
        }
        let Some(token) = bearer_token(headers) else { return Ok(None) };
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.tokens.get(&key) {
            return Ok(known);
        }
        let user = self.review_token(token).await?;
        self.tokens.insert(key, user.clone(), TOKEN_KNOWN);
        Ok(user)
    }

    async fn review_token(&self, token: &str) -> Result<Option<User>, AuthError> {
        let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let status = self.review("TokenReview", &review).await?.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        Ok(user.and_then(|user| {
            let name = user.username.filter(|name| !name.is_empty())?;
            let groups = user.groups.unwrap_or_default();
            Some(User { name, uid: user.uid, groups, extra: user.extra.unwrap_or_default() }.authenticated())
        }))
    }

    /// Whether somebody may do something with a node.
    pub(crate) async fn allows(&self, user: &User, attributes: Attributes) -> Result<bool, AuthError> {
        let key = (user.clone(), attributes);
        if let Some(known) = self.decisions.get(&key) {
            return Ok(known);
        }
        let is_allowed = self.review_access(&key.0, &key.1).await?;
        self.decisions.insert(key, is_allowed, if is_allowed { ALLOWED_KNOWN } else { DENIED_KNOWN });
        Ok(is_allowed)
    }

    async fn review_access(&self, user: &User, attributes: &Attributes) -> Result<bool, AuthError> {
        let resource = ResourceAttributes {
            verb: Some(attributes.verb.to_owned()),
            version: Some("v1".to_owned()),
            resource: Some("nodes".to_owned()),
            subresource: Some(attributes.subresource.to_owned()),
            name: Some(attributes.node.clone()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            resource_attributes: Some(resource),
            user: Some(user.name.clone()),
            uid: user.uid.clone(),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let status = self.review("SubjectAccessReview", &review).await?.status;
        Ok(status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }

    async fn review<K>(&self, what: &'static str, review: &K) -> Result<K, AuthError>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.0.clone());
        let asked = tokio::time::timeout(REVIEW, api.create(&PostParams::default(), review)).await;
        let answer = asked.map_err(|_| AuthError::Late { what })?;
        answer.map_err(|source| AuthError::Review { what, source: Box::new(source) })
    }
}

/// The token of a request.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}
