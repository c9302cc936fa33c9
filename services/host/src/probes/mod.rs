//! Asks containers from outside, as the kubelet does: by HTTP, by TCP, by gRPC's health service.
//!
//! Called by the task of a Pod for probes and for HTTP hooks. What an answer means for the container is the business of
//! `monopod_podplan::life`; here an answer becomes a word and a message, the kubelet's own where it has one.

mod grpc;
mod http;
mod tcp;

#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::time::Duration;

use monopod_podplan::life::{HttpRequest, ProbeOutcome};

/// Most bytes of an answer that are read and quoted.
pub(crate) const MAX_ANSWER: usize = 10 << 10;

/// Asks. Cheap to clone; one for the whole daemon.
#[derive(Clone, Debug)]
pub(crate) struct Prober {
    http: http::Client,
}

impl Prober {
    /// Sets up what questions need.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(crate) fn new() -> Result<Self, ProberError> {
        Ok(Self { http: http::Client::new()? })
    }

    /// One GET; redirects are followed on the same host only.
    pub(crate) async fn http(&self, request: &HttpRequest, timeout: Duration) -> ProbeOutcome {
        self.http.probe(request, timeout).await
    }

    /// The GET of a hook, for which any answer is good.
    pub(crate) async fn http_hook(&self, request: &HttpRequest, timeout: Option<Duration>) -> Result<(), String> {
        self.http.hook(request, timeout).await
    }

    /// One connection.
    pub(crate) async fn tcp(&self, host: &str, port: u16, timeout: Duration) -> ProbeOutcome {
        tcp::probe(host, port, timeout).await
    }

    /// One question to the health service.
    pub(crate) async fn grpc(&self, host: &str, port: u16, service: &str, timeout: Duration) -> ProbeOutcome {
        grpc::probe(host, port, service, timeout).await
    }
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub enum ProberError {
    /// The TLS library refuses its own defaults.
    #[error("failed to set up TLS for probes")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be made.
    #[error("failed to set up HTTP for probes")]
    Http(#[source] reqwest::Error),
}

impl ProberError {
    /// Event reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Tls(_) | Self::Http(_) => "ProbeSetupFailed",
        }
    }
}

/// Host and port as in a URL: an IPv6 address stands in brackets.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// An error of the operating system in the words that people know from the kubelet.
fn system_words(error: &std::io::Error) -> String {
    const WORDS: [(ErrorKind, &str); 5] = [
        (ErrorKind::ConnectionRefused, "connect: connection refused"),
        (ErrorKind::HostUnreachable, "connect: no route to host"),
        (ErrorKind::NetworkUnreachable, "connect: network is unreachable"),
        (ErrorKind::ConnectionReset, "read: connection reset by peer"),
        (ErrorKind::TimedOut, "i/o timeout"),
    ];
    let known = WORDS.iter().find(|(kind, _)| *kind == error.kind());
    known.map_or_else(|| error.to_string(), |(_, words)| (*words).to_owned())
}

/// A duration as the kubelet writes it: `1s`, `1.5s`, `200ms`, `1m0s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    if seconds == 0 {
        return if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") };
    }
    let fraction = format!("{millis:03}");
    let fraction = fraction.trim_end_matches('0');
    let rest = seconds % 60;
    let shown = if fraction.is_empty() { format!("{rest}s") } else { format!("{rest}.{fraction}s") };
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => shown,
        (0, minutes) => format!("{minutes}m{shown}"),
        (hours, minutes) => format!("{hours}h{minutes}m{shown}"),
    }
}
