//! A server in front of a registry that demands logins and spoils answers, on command.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::http::{Head, read_head};

/// The user and the password that the door knows.
pub const LOGIN: (&str, &str) = ("me", "open sesame");
/// The same as a `Basic` header has it.
const BASIC: &str = "Basic bWU6b3BlbiBzZXNhbWU=";
const TOKEN: &str = "a-token";

/// What it takes to come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Door {
    /// Nothing.
    #[default]
    Open,
    /// User and password with each request.
    Basic,
    /// A token, which is given for user and password.
    Token,
    /// A token, which everyone gets.
    AnonymousToken,
}

/// What happens to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut after so many bytes of the body.
    Cut(usize),
    /// Nothing more comes after so many bytes of the body.
    Stall(usize),
    /// The byte at this place of the body is another one.
    Corrupt(usize),
    /// The body never ends.
    Endless,
    /// Another status, and no body.
    Status(u16),
    /// The request's range is not heard.
    ForgetRange,
    /// A body of so many spaces under this status.
    Huge(u16, usize),
    /// A redirect to here.
    Redirect(&'static str),
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Path and query.
    pub path: String,
    /// The range that was asked for.
    pub range: Option<String>,
    /// Whether there was a login or a token with it.
    pub had_login: bool,
}

#[derive(Debug, Default)]
struct State {
    door: Door,
    faults: Vec<(String, Fault, usize)>,
    asked: Vec<Asked>,
}

/// The server; it ends when dropped.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Front {
    /// Stands in front of a registry.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn of(registry: SocketAddr) -> Result<Self> {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), registry).await
    }

    /// The same at a certain address, such as that of one that was dropped.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn at(address: SocketAddr, registry: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await.context("failed to listen")?;
        let address = listener.local_addr().context("failed to listen")?;
        let state = Arc::new(Mutex::new(State::default()));
        let task = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                // Connections end with the server.
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(serve(stream, address, registry, Arc::clone(&state)));
                }
            }
        });
        Ok(Self { address, state, task })
    }

    /// `127.0.0.1:PORT`, as image names have it.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it takes to come in from now on.
    pub fn set_door(&self, door: Door) {
        locked(&self.state).door = door;
    }

    /// Spoils the next so many answers to requests whose path has this in it.
    pub fn spoil(&self, path: &str, fault: Fault, times: usize) {
        locked(&self.state).faults.push((path.to_owned(), fault, times));
    }

    /// What was asked for so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        locked(&self.state).asked.clone()
    }
}

fn locked(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// The fault for a request, which counts as used.
    fn fault(&mut self, path: &str) -> Option<Fault> {
        let found = self.faults.iter_mut().find(|(part, _, times)| *times > 0 && path.contains(part.as_str()))?;
        found.2 -= 1;
        Some(found.1)
    }
}

/// One connection, one request. That a client goes away is no error here.
async fn serve(mut stream: TcpStream, own: SocketAddr, registry: SocketAddr, state: Arc<Mutex<State>>) {
    let mut buffer = Vec::new();
    let Ok(Some(head)) = read_head(&mut stream, &mut buffer).await else { return };
    let path = head.first.split(' ').nth(1).unwrap_or_default().to_owned();
    let login = head.header("authorization").map(str::to_owned);
    let (door, fault) = {
        let mut state = locked(&state);
        let range = head.header("range").map(str::to_owned);
        state.asked.push(Asked { path: path.clone(), range, had_login: login.is_some() });
        (state.door, state.fault(&path))
    };
    let answered = match (own_answer(door, &path, login.as_deref(), own), fault) {
        (_, Some(Fault::Status(status))) => say(&mut stream, status, "Retry-After: 7\r\n", b"").await,
        (_, Some(Fault::Huge(status, size))) => say(&mut stream, status, "", &vec![b' '; size]).await,
        (_, Some(Fault::Redirect(to))) => say(&mut stream, 307, &format!("Location: {to}\r\n"), b"").await,
        (Some((status, headers, body)), _) => say(&mut stream, status, &headers, body.as_bytes()).await,
        (None, fault) => forward(&mut stream, head, registry, fault).await,
    };
    // A client that has gone away is what some tests are about.
    let _ = answered;
}

/// What the door says, if it does not let the request in; or the token.
fn own_answer(door: Door, path: &str, login: Option<&str>, own: SocketAddr) -> Option<(u16, String, String)> {
    let refusal = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    let refused = |challenge: &str| Some((401, format!("WWW-Authenticate: {challenge}\r\n"), refusal.to_owned()));
    if path.starts_with("/token") {
        let is_known = door == Door::AnonymousToken || login == Some(BASIC);
        let body = format!(r#"{{"token":"{TOKEN}","expires_in":60}}"#);
        return if is_known {
            Some((200, String::new(), body))
        } else {
            Some((401, String::new(), refusal.to_owned()))
        };
    }
    let bearer = format!("Bearer {TOKEN}");
    match door {
        Door::Basic if login != Some(BASIC) => refused("Basic realm=\"a registry\""),
        Door::Token | Door::AnonymousToken if login != Some(bearer.as_str()) => {
            refused(&format!("Bearer realm=\"http://{own}/token\",service=\"test\",scope=\"repository:x:pull\""))
        }
        Door::Open | Door::Basic | Door::Token | Door::AnonymousToken => None,
    }
}

async fn say(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> Result<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Said\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.context("failed to answer")?;
    stream.write_all(body).await.context("failed to answer")?;
    stream.shutdown().await.context("failed to answer")
}

async fn forward(stream: &mut TcpStream, mut head: Head, registry: SocketAddr, fault: Option<Fault>) -> Result<()> {
    head.headers.retain(|(key, _)| {
        let is_range = key.eq_ignore_ascii_case("range") && fault == Some(Fault::ForgetRange);
        !key.eq_ignore_ascii_case("connection") && !key.eq_ignore_ascii_case("authorization") && !is_range
    });
    head.headers.push(("Connection".to_owned(), "close".to_owned()));
    let mut behind = TcpStream::connect(registry).await.context("failed to reach the registry")?;
    behind.write_all(head.text().as_bytes()).await.context("failed to ask the registry")?;
    let mut body = Vec::new();
    let mut answer = read_head(&mut behind, &mut body).await?.context("the registry said nothing")?;
    behind.read_to_end(&mut body).await.context("the registry broke off")?;
    if fault == Some(Fault::Endless) {
        answer.headers.retain(|(key, _)| !key.eq_ignore_ascii_case("content-length"));
    }
    stream.write_all(answer.text().as_bytes()).await.context("failed to answer")?;
    match fault {
        Some(Fault::Cut(at)) => body.truncate(at),
        Some(Fault::Corrupt(at)) => {
            if let Some(byte) = body.get_mut(at) {
                *byte ^= 0xff;
            }
        }
        Some(Fault::Stall(at)) => {
            stream.write_all(&body[..at.min(body.len())]).await.context("failed to answer")?;
            // Longer than anybody waits; the connection's end ends it.
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        Some(Fault::Endless) => loop {
            stream.write_all(&[b' '; 4096]).await.context("failed to answer")?;
        },
        Some(Fault::Status(_) | Fault::ForgetRange | Fault::Huge(..) | Fault::Redirect(_)) | None => {}
    }
    stream.write_all(&body).await.context("failed to answer")?;
    stream.shutdown().await.context("failed to answer")
}
