//! One pull's dealings with the servers of a registry.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, RANGE, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};

use super::auth::{Challenge, answer};
use super::{Endpoint, Registry, body, in_time, refusal, words};
use crate::credentials::{Credentials, Login};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::manifest::{self, Blob, Document, Manifest};
use crate::reference::{Reference, Version};

/// An index may hold an index; deeper is nonsense.
const MAX_NESTING: usize = 3;

/// A repository, everyone who may have it, and how far we have come with showing who we are.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) registry: Arc<Registry>,
    pub(super) reference: Reference,
    pub(super) peers: Vec<Peer>,
}

/// A server, the logins for it, and what it has accepted last.
#[derive(Debug)]
pub(super) struct Peer {
    endpoint: Endpoint,
    logins: Vec<Login>,
    accepted: Mutex<Accepted>,
}

#[derive(Clone, Debug, Default)]
struct Accepted {
    header: Option<HeaderValue>,
    /// Which of the logins it stands for.
    login: usize,
}

impl Peer {
    fn accepted(&self) -> Accepted {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn accept(&self, accepted: Accepted) {
        *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = accepted;
    }
}

/// What a reference names, as the registry has it.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The digest of what the reference names, which may be an index.
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    /// Which of the servers has answered.
    pub(crate) peer: usize,
}

impl Session {
    pub(super) fn new(
        registry: Arc<Registry>,
        reference: &Reference,
        credentials: &Credentials,
        endpoints: Vec<Endpoint>,
    ) -> Result<Self, ImageError> {
        let peer = |endpoint: Endpoint| {
            // A mirror gets only what the Pod has for the mirror itself, never the registry's password.
            let logins = if endpoint.server.is_mirror {
                credentials.for_place(&authority(&endpoint.server.url), reference.path())
            } else {
                credentials.for_reference(reference)
            };
            let logins = logins.into_iter().cloned().collect();
            Peer { endpoint, logins, accepted: Mutex::default() }
        };
        let peers: Vec<_> = endpoints.into_iter().map(peer).collect();
        if peers.is_empty() {
            let problem = "no server is known for it".to_owned();
            return Err(ImageError::Protocol { host: reference.domain().to_owned(), problem });
        }
        Ok(Self { registry, reference: reference.clone(), peers })
    }

    /// What the reference names. Servers are asked in order; the last one's error is the one that counts.
    pub(crate) async fn resolve(&self) -> Result<Resolved, ImageError> {
        let mut last = None;
        for at in 0..self.peers.len() {
            match self.resolve_at(at).await {
                Ok(resolved) => return Ok(resolved),
                Err(error) => {
                    tracing::debug!(reference = %self.reference, %error, "a server does not give the manifest");
                    last = Some(error);
                }
            }
        }
        Err(last.expect("there is a server"))
    }

    async fn resolve_at(&self, peer: usize) -> Result<Resolved, ImageError> {
        let expected = match self.reference.version() {
            Version::Tag(_) => None,
            Version::Digest(digest) => Some(*digest),
        };
        let mut version = self.reference.version_text();
        let mut expected = expected;
        let mut top = None;
        for _ in 0..MAX_NESTING {
            let bytes = self.manifest(peer, &version, expected).await?;
            let digest = *top.get_or_insert_with(|| Digest::of(&bytes));
            match Document::parse(&bytes, &self.registry.limits)? {
                Document::Manifest(manifest) => return Ok(Resolved { digest, manifest, peer }),
                Document::Index(entries) => {
                    let entry = manifest::choose(&entries, &self.reference.to_string())?;
                    expected = Some(entry.blob.digest);
                    version = entry.blob.digest.to_string();
                }
            }
        }
        Err(ImageError::malformed("index", "indexes within each other without end"))
    }

    async fn manifest(&self, peer: usize, version: &str, expected: Option<Digest>) -> Result<Vec<u8>, ImageError> {
        let registry = &self.registry;
        let mut response = self.get(peer, &format!("manifests/{version}"), None).await?;
        let bytes = body(&mut response, "manifest", registry.limits.manifest, registry.patience.stall).await?;
        check("manifest", expected, &bytes)?;
        Ok(bytes)
    }

    /// A config, whole.
    pub(crate) async fn config(&self, peer: usize, blob: &Blob) -> Result<Vec<u8>, ImageError> {
        let registry = &self.registry;
        let mut response = self.get(peer, &format!("blobs/{}", blob.digest), None).await?;
        let limit = registry.limits.config.min(blob.size);
        let bytes = body(&mut response, "config", limit, registry.patience.stall).await?;
        check("config", Some(blob.digest), &bytes)?;
        Ok(bytes)
    }

    /// Asks a server, and shows who we are as far as it wants to know. The answer is a success.
    pub(super) async fn get(&self, peer: usize, what: &str, from: Option<u64>) -> Result<Response, ImageError> {
        let server = &self.peers[peer];
        let url = self.url(server, what)?;
        let accepted = server.accepted();
        let response = self.send(server, &url, from, accepted.header.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.checked(response).await;
        }
        self.get_with_login(server, &url, from, response, accepted.login).await
    }

    /// Tries one login after the other, beginning with the one that was good before: its token may have run out.
    async fn get_with_login(
        &self,
        server: &Peer,
        url: &Url,
        from: Option<u64>,
        mut response: Response,
        first: usize,
    ) -> Result<Response, ImageError> {
        let (limits, stall) = (&self.registry.limits, self.registry.patience.stall);
        for at in first..server.logins.len().max(1) {
            let Some(challenge) = challenge(&response) else { break };
            let login = server.logins.get(at);
            let path = self.reference.path();
            let Some(header) = answer(&server.endpoint, &challenge, path, login, limits, stall).await? else {
                continue;
            };
            let next = self.send(server, url, from, Some(&header)).await?;
            if !matches!(next.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                server.accept(Accepted { header: Some(header), login: at });
                return self.checked(next).await;
            }
            // A refusal without a challenge is the same challenge again.
            if next.headers().contains_key(WWW_AUTHENTICATE) || at + 1 >= server.logins.len() {
                response = next;
            }
        }
        let said = body(&mut response, "answer", limits.answer, stall).await.unwrap_or_default();
        Err(self.denied(&said))
    }

    async fn send(
        &self,
        server: &Peer,
        url: &Url,
        from: Option<u64>,
        header: Option<&HeaderValue>,
    ) -> Result<Response, ImageError> {
        let mut request = server.endpoint.client.get(url.clone()).header(ACCEPT, manifest::ACCEPT);
        if let Some(header) = header {
            request = request.header(AUTHORIZATION, header.clone());
        }
        if let Some(from) = from {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        in_time(self.registry.patience.stall, url, request.send()).await
    }

    async fn checked(&self, mut response: Response) -> Result<Response, ImageError> {
        let (limits, stall) = (&self.registry.limits, self.registry.patience.stall);
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => Err(ImageError::NotFound { reference: self.reference.clone() }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let said = body(&mut response, "answer", limits.answer, stall).await.unwrap_or_default();
                Err(self.denied(&said))
            }
            _ => Err(refusal(response, limits, stall).await),
        }
    }

    fn denied(&self, said: &[u8]) -> ImageError {
        ImageError::Denied { repository: self.reference.repository(), said: words(said) }
    }

    fn url(&self, server: &Peer, what: &str) -> Result<Url, ImageError> {
        let base = &server.endpoint.server.url;
        let text = format!("{}/v2/{}/{what}", base.as_str().trim_end_matches('/'), self.reference.path());
        let mut url = Url::parse(&text).map_err(|_| ImageError::Protocol {
            host: self.reference.domain().to_owned(),
            problem: "its name makes no URL".to_owned(),
        })?;
        if server.endpoint.server.is_mirror {
            // So that one mirror can stand for several registries.
            url.query_pairs_mut().append_pair("ns", self.reference.domain());
        }
        Ok(url)
    }
}

fn challenge(response: &Response) -> Option<Challenge> {
    let headers = response.headers().get_all(WWW_AUTHENTICATE);
    let texts: Vec<_> = headers.iter().filter_map(|header| header.to_str().ok()).collect();
    Challenge::parse(&texts.join(", "))
}

fn check(what: &str, expected: Option<Digest>, bytes: &[u8]) -> Result<(), ImageError> {
    let found = Digest::of(bytes);
    match expected {
        Some(expected) if expected != found => Err(ImageError::WrongDigest { what: what.to_owned(), expected, found }),
        Some(_) | None => Ok(()),
    }
}

/// Host and port as image names have them.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
