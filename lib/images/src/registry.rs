//! Asks registries: what a reference names, and for the content by its digest.
//!
//! Everything that comes back is foreign: bodies are read up to a limit and no further, every wait has an end, and
//! content counts only once its digest is right.

mod auth;
mod blob;
mod session;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, Response, Url};

pub(crate) use session::Session;

use crate::credentials::Credentials;
use crate::digest::shortened;
use crate::error::ImageError;
use crate::limits::Limits;
use crate::reference::Reference;
use crate::registries::{Registries, Server};

pub(crate) use auth::{Challenge, token_of};

/// How long to wait, and how often to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next bytes, wherever some are due.
    pub stall: Duration,
    /// Attempts in a row that bring nothing, before a download is given up.
    pub attempts: u32,
    /// Between two attempts, doubled each time.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            attempts: 5,
            pause: Duration::from_millis(250),
        }
    }
}

/// The client side of all registries.
#[derive(Debug)]
pub(crate) struct Registry {
    registries: Registries,
    limits: Limits,
    patience: Patience,
    /// Connections are kept between pulls.
    clients: Mutex<HashMap<String, Client>>,
}

/// A place to ask, and the connections to it.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    server: Server,
    client: Client,
}

impl Registry {
    pub(crate) fn new(registries: Registries, limits: Limits, patience: Patience) -> Self {
        Self { registries, limits, patience, clients: Mutex::default() }
    }

    /// A session for one repository with the credentials of one Pod.
    pub(crate) fn session(
        self: &Arc<Self>,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Session, ImageError> {
        let servers = self.registries.servers(reference.domain());
        let endpoints: Result<Vec<_>, ImageError> = servers.into_iter().map(|server| self.endpoint(server)).collect();
        Session::new(Arc::clone(self), reference, credentials, endpoints?)
    }

    fn endpoint(&self, server: Server) -> Result<Endpoint, ImageError> {
        let key = format!("{server:?}");
        // A poisoned map of clients is still a map of clients.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(Endpoint { server, client: client.clone() });
        }
        let client = tls::client(&server, &self.patience)?;
        clients.insert(key, client.clone());
        Ok(Endpoint { server, client })
    }
}

/// A URL for messages: a query may hold a signature.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    shortened(url.as_str())
}

fn transport(url: &Url, error: reqwest::Error) -> ImageError {
    ImageError::Transport { url: shown(url), source: Arc::new(error.without_url()) }
}

/// Waits for something from a registry, but not for ever.
async fn in_time<T>(
    stall: Duration,
    url: &Url,
    wait: impl Future<Output = reqwest::Result<T>>,
) -> Result<T, ImageError> {
    match tokio::time::timeout(stall, wait).await {
        Ok(result) => result.map_err(|error| transport(url, error)),
        Err(_) => Err(ImageError::Stalled { url: shown(url), waited: stall }),
    }
}

/// Reads a body whole; one byte over the limit is an error.
async fn body(response: &mut Response, what: &str, limit: u64, stall: Duration) -> Result<Vec<u8>, ImageError> {
    let url = response.url().clone();
    let mut bytes = Vec::new();
    while let Some(chunk) = in_time(stall, &url, response.chunk()).await? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(ImageError::TooLarge { what: what.to_owned(), limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The error that an answer stands for. Its body is looked at for the registry's own words.
async fn refusal(mut response: Response, limits: &Limits, stall: Duration) -> ImageError {
    let url = shown(response.url());
    let status = response.status().as_u16();
    let after = response.headers().get(reqwest::header::RETRY_AFTER);
    let after = after.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let after = after.map(|seconds: u32| Duration::from_secs(u64::from(seconds)));
    let said = body(&mut response, "answer", limits.answer, stall).await.unwrap_or_default();
    ImageError::Status { status, method: "GET", url, said: words(&said), after }
}

/// A registry's own words about an error.
fn words(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Errors>(body) {
        Ok(read) => {
            let each = read.errors.iter().map(|one| format!("{}: {}", one.code.to_lowercase(), one.message));
            shortened(&each.collect::<Vec<_>>().join("; "))
        }
        Err(_) => shortened(&String::from_utf8_lossy(body)),
    }
}
