//! `/exec` and `/attach`: from a request to a session.

use std::collections::HashMap;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use tokio::sync::mpsc;

use crate::backend::{Exec, PodBackend, Target};
use crate::channels::{Channels, Coding, Layout};
use crate::query::Query;
use crate::reply::{Answer, failure, text};
use crate::server::{Limits, Node};
use crate::session::{Link, Outcome, Session, StatusFormat};
use crate::spdy::{self, SpdyStream};
use crate::upgrade::{self, Kind, Raw};

const SPDY_PROTOCOLS: [&str; 4] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const WEBSOCKET_PROTOCOLS: [&str; 6] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];

/// Channels of a WebSocket, by number.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// What runs in the container.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// Another program.
    Exec(Vec<String>),
    /// Its own one.
    Attach,
}

/// The streams that are asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Asked {
    fn read(query: &Query) -> Option<Self> {
        let tty = query.is_one("tty");
        // A terminal has one output.
        let stderr = query.is_one("error") && !tty;
        let asked = Self { stdin: query.is_one("input"), stdout: query.is_one("output"), stderr, tty };
        (asked.stdin || asked.stdout || asked.stderr).then_some(asked)
    }

    /// Streams of SPDY that the client opens: these, one for errors, one for the size of the terminal.
    fn streams(self, has_resize: bool) -> usize {
        let asked = [self.stdin, self.stdout, self.stderr, self.tty && has_resize];
        1 + asked.into_iter().filter(|is_asked| *is_asked).count()
    }
}

/// Answers a request for exec or attach, and carries the session on.
pub(crate) async fn serve(
    node: &Arc<Node>,
    mut request: Request<Incoming>,
    target: Target,
    program: Program,
    query: &Query,
) -> Result<Answer, Box<Answer>> {
    let bad = |message: &str| Box::new(text(StatusCode::BAD_REQUEST, message.to_owned()));
    let asked = Asked::read(query).ok_or_else(|| bad("you must specify at least 1 of stdin, stdout, stderr"))?;
    let kind = Kind::of(request.headers()).ok_or_else(|| bad("Upgrade request required"))?;
    let checked = node.backend.check_running(&target).await;
    checked.map_err(|error| Box::new(failure(&error, StatusCode::INTERNAL_SERVER_ERROR)))?;
    let agreed = match kind {
        Kind::WebSocket => upgrade::websocket(request.headers(), &WEBSOCKET_PROTOCOLS)?,
        Kind::Spdy => upgrade::spdy(request.headers(), &SPDY_PROTOCOLS)?,
    };
    let place = node.session()?;
    let upgraded = hyper::upgrade::on(&mut request);
    let (backend, limits, protocol) = (Arc::clone(&node.backend), node.limits.clone(), agreed.protocol);
    node.spawn(async move {
        let _place = place;
        let Some(raw) = upgrade::raw(upgraded).await else { return };
        let session = match kind {
            Kind::WebSocket => Some(over_websocket(raw, &protocol, asked, &limits).await),
            Kind::Spdy => over_spdy(raw, &protocol, asked, &limits).await,
        };
        match session {
            Some(session) => run(session, backend.as_ref(), &target, program, asked).await,
            None => tracing::info!(?target, "a client did not open its streams in time"),
        }
    });
    Ok(agreed.answer)
}

async fn run(session: Session, backend: &dyn PodBackend, target: &Target, program: Program, asked: Asked) {
    match program {
        Program::Exec(args) => {
            let exec = Exec { args: args.clone(), tty: asked.tty, stdin: asked.stdin };
            let process = backend.exec(target, exec).await;
            let ended = |code| match code {
                0 => Outcome::Success,
                code => Outcome::Exit { code, what: format!("error executing command {args:?}, exit code {code}") },
            };
            session.carry(process, ended, "executing command in container").await;
        }
        Program::Attach => {
            let process = backend.attach(target, asked.stdin).await;
            // How the container ended is in its status.
            session.carry(process, |_| Outcome::Success, "attaching to container").await;
        }
    }
}

async fn over_websocket(raw: Raw, protocol: &str, asked: Asked, limits: &Limits) -> Session {
    let coding = if protocol.contains("base64") { Coding::Base64 } else { Coding::Binary };
    let reads = vec![asked.stdin, false, false, false, true];
    let layout = Layout { coding, can_close: protocol.starts_with("v5"), reads };
    let socket = upgrade::websocket_on(raw).await;
    let mut channels = Channels::serve(socket, &layout, limits.idle);
    let format = match protocol.get(..3) {
        Some("v4." | "v5.") => StatusFormat::Json,
        _ => StatusFormat::Text,
    };
    let stdout = asked.stdout.then(|| channels.outlet(STDOUT));
    let stderr = asked.stderr.then(|| channels.outlet(STDERR));
    let status = channels.outlet(ERROR);
    // Nothing, on the first channel that has output, tells the client that it is connected.
    let _ = stdout.as_ref().or(stderr.as_ref()).unwrap_or(&status).send(bytes::Bytes::new()).await;
    Session {
        stdin: channels.take(usize::from(STDIN)),
        stdout,
        stderr,
        resize: channels.take(usize::from(RESIZE)),
        status,
        format,
        gone: channels.gone.clone(),
        link: Link::WebSocket { _channels: channels },
    }
}

async fn over_spdy(raw: Raw, protocol: &str, asked: Asked, limits: &Limits) -> Option<Session> {
    let (connection, mut opened) = spdy::serve(raw, limits.idle);
    let has_resize = protocol.starts_with("v3") || protocol.starts_with("v4");
    let gathered = gather(&mut opened, asked.streams(has_resize));
    let mut streams = tokio::time::timeout(limits.stream_creation, gathered).await.ok()??;
    let mut outlet = |name: &str| streams.remove(name).map(|stream| (stream.output, stream.input));
    let (status, _) = outlet("error")?;
    let format = if protocol.starts_with("v4") { StatusFormat::Json } else { StatusFormat::Text };
    Some(Session {
        stdin: outlet("stdin").filter(|_| asked.stdin).map(|(_, input)| input),
        stdout: outlet("stdout").filter(|_| asked.stdout).map(|(output, _)| output),
        stderr: outlet("stderr").filter(|_| asked.stderr).map(|(output, _)| output),
        resize: outlet("resize").map(|(_, input)| input),
        status,
        format,
        gone: connection.gone.clone(),
        link: Link::Spdy { _connection: connection },
    })
}

/// Takes streams until as many of different types are there. Nothing, when the peer goes before that.
async fn gather(opened: &mut mpsc::Receiver<SpdyStream>, count: usize) -> Option<HashMap<String, SpdyStream>> {
    let mut streams = HashMap::new();
    while streams.len() < count {
        let stream = opened.recv().await?;
        let kind = stream.headers.get("streamtype").unwrap_or_default().to_owned();
        let is_known = matches!(kind.as_str(), "stdin" | "stdout" | "stderr" | "error" | "resize");
        if is_known && !streams.contains_key(&kind) {
            stream.accept().await;
            streams.insert(kind, stream);
        } else {
            stream.output.reset().await;
        }
    }
    Some(streams)
}
