//! Carries a program's input and output between its streams and the backend, whatever the streams are made of.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::backend::{BackendError, Process, ProcessInput, ProcessOutput, TerminalSize};
use crate::channels::Channels;
use crate::outlet::Outlet;
use crate::spdy::SpdyConnection;

/// A terminal's size in JSON is never longer.
const MAX_SIZE_TEXT: usize = 256;

/// How the end of a program is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusFormat {
    /// As text, and not at all when all went well: before version 4.
    Text,
    /// As a `Status`.
    Json,
}

/// What keeps the connection under a session open.
#[derive(Debug)]
pub(crate) enum Link {
    Spdy { _connection: SpdyConnection },
    WebSocket { _channels: Channels },
}

/// The streams of one exec or attach.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) stdin: Option<mpsc::Receiver<Bytes>>,
    pub(crate) stdout: Option<Outlet>,
    pub(crate) stderr: Option<Outlet>,
    pub(crate) resize: Option<mpsc::Receiver<Bytes>>,
    pub(crate) status: Outlet,
    pub(crate) format: StatusFormat,
    /// The caller is gone.
    pub(crate) gone: CancellationToken,
    pub(crate) link: Link,
}

/// What the caller learns at the end.
#[derive(Debug)]
pub(crate) enum Outcome {
    Success,
    /// The program has ended with another code than 0.
    Exit {
        code: i32,
        what: String,
    },
    /// It could not be started or lost.
    Failed {
        message: String,
    },
}

#[derive(Debug, Serialize)]
struct Status {
    metadata: Empty,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Debug, Serialize)]
struct Empty {}

#[derive(Debug, Serialize)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Debug, Serialize)]
struct Cause {
    reason: &'static str,
    message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SizeText {
    width: u16,
    height: u16,
}

impl Outcome {
    /// What is written to the status stream, if anything.
    fn text(&self, format: StatusFormat) -> Option<String> {
        let mut status =
            Status { metadata: Empty {}, status: "Failure", message: None, reason: None, details: None, code: None };
        match self {
            Self::Success => status.status = "Success",
            Self::Exit { code, what } => {
                status.message = Some(format!("command terminated with non-zero exit code: {what}"));
                status.reason = Some("NonZeroExitCode");
                let cause = Cause { reason: "ExitCode", message: code.to_string() };
                status.details = Some(Details { causes: vec![cause] });
            }
            Self::Failed { message } => {
                status.message = Some(format!("Internal error occurred: {message}"));
                status.reason = Some("InternalError");
                status.code = Some(500);
            }
        }
        match format {
            StatusFormat::Text => status.message,
            StatusFormat::Json => serde_json::to_string(&status).ok(),
        }
    }
}

impl Session {
    /// Carries everything until the program has ended or the caller is gone.
    pub(crate) async fn carry(
        mut self,
        started: Result<Process, BackendError>,
        ended: impl Fn(i32) -> Outcome,
        what: &str,
    ) {
        let failed = |error: BackendError| Outcome::Failed { message: format!("error {what}: {error}") };
        let outcome = match started {
            Ok(Process { input, output }) => {
                let (stdin, resize) = (self.stdin.take(), self.resize.take());
                let fed = async {
                    tokio::join!(feed(stdin, input.clone()), resized(resize, input));
                    // The output says when it is over.
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    result = show(output, self.stdout.as_ref(), self.stderr.as_ref()) => match result {
                        Some(Ok(code)) => ended(code),
                        Some(Err(error)) => failed(error),
                        None => return,
                    },
                    () = self.gone.cancelled() => return,
                    () = fed => return,
                }
            }
            Err(error) => failed(error),
        };
        self.end(&outcome).await;
    }

    /// Says how it ended, and ends all streams.
    async fn end(self, outcome: &Outcome) {
        for outlet in [&self.stdout, &self.stderr].into_iter().flatten() {
            outlet.finish().await;
        }
        if let Some(text) = outcome.text(self.format) {
            let _ = self.status.send(text.into()).await;
        }
        self.status.finish().await;
        drop(self.link);
    }
}

/// Passes input on, and its end.
async fn feed(stdin: Option<mpsc::Receiver<Bytes>>, input: mpsc::Sender<ProcessInput>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(data) = stdin.recv().await {
        if input.send(ProcessInput::Stdin(data)).await.is_err() {
            // The program has ended or closed its input; what still comes is of no use to it.
            while stdin.recv().await.is_some() {}
            return;
        }
    }
    let _ = input.send(ProcessInput::StdinEnd).await;
}

/// Passes sizes of the terminal on.
async fn resized(resize: Option<mpsc::Receiver<Bytes>>, input: mpsc::Sender<ProcessInput>) {
    let Some(mut resize) = resize else { return };
    let mut text = Vec::new();
    while let Some(data) = resize.recv().await {
        text.extend_from_slice(&data);
        for size in sizes(&mut text) {
            if input.send(ProcessInput::Resize(size)).await.is_err() {
                return;
            }
        }
    }
}

/// Takes the complete sizes off a text. One that cannot be read is dropped with all that is there.
fn sizes(text: &mut Vec<u8>) -> Vec<TerminalSize> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<SizeText>();
    let mut sizes = Vec::new();
    let mut read = 0;
    let is_wrong = loop {
        match values.next() {
            Some(Ok(size)) => {
                sizes.push(TerminalSize { width: size.width, height: size.height });
                read = values.byte_offset();
            }
            Some(Err(error)) => break !error.is_eof(),
            None => break false,
        }
    };
    text.drain(..read);
    if is_wrong || text.len() > MAX_SIZE_TEXT {
        text.clear();
    }
    sizes
}

/// Passes output on. Nothing, when the caller is gone.
async fn show(
    mut output: mpsc::Receiver<Result<ProcessOutput, BackendError>>,
    stdout: Option<&Outlet>,
    stderr: Option<&Outlet>,
) -> Option<Result<i32, BackendError>> {
    while let Some(event) = output.recv().await {
        let (outlet, data) = match event {
            Ok(ProcessOutput::Stdout(data)) => (stdout, data),
            Ok(ProcessOutput::Stderr(data)) => (stderr, data),
            Ok(ProcessOutput::Exited { code }) => return Some(Ok(code)),
            Err(error) => return Some(Err(error)),
        };
        // Output that was not asked for is dropped.
        if let Some(outlet) = outlet.filter(|_| !data.is_empty()) {
            outlet.send(data).await.ok()?;
        }
    }
    let lost = "the connection to the Pod ended before the program did";
    Some(Err(BackendError::new(crate::BackendErrorKind::Failed, lost)))
}

#[cfg(test)]
mod tests {
    use super::{MAX_SIZE_TEXT, Outcome, StatusFormat, sizes};
    use crate::TerminalSize;

    #[test]
    fn an_exit_code_is_the_cause_of_a_status() {
        let outcome = Outcome::Exit { code: 7, what: "exit code 7".to_owned() };
        let expected = concat!(
            r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit code 7","#,
            r#""reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#,
        );
        assert_eq!(outcome.text(StatusFormat::Json).as_deref(), Some(expected));
        assert_eq!(
            outcome.text(StatusFormat::Text).as_deref(),
            Some("command terminated with non-zero exit code: exit code 7")
        );
        assert_eq!(Outcome::Success.text(StatusFormat::Json).as_deref(), Some(r#"{"metadata":{},"status":"Success"}"#));
        assert_eq!(Outcome::Success.text(StatusFormat::Text), None);
    }

    #[test]
    fn sizes_are_read_as_they_become_whole() {
        let mut text = br#"{"Width":80,"Height":24}{"Width":12"#.to_vec();
        assert_eq!(sizes(&mut text), [TerminalSize { width: 80, height: 24 }]);
        text.extend(br#"0,"Height":50}"#);
        assert_eq!(sizes(&mut text), [TerminalSize { width: 120, height: 50 }]);
        assert!(text.is_empty());
    }

    #[test]
    fn a_size_that_never_ends_is_dropped() {
        let mut text = format!("{{\"Width\":{}", "1".repeat(MAX_SIZE_TEXT)).into_bytes();
        assert_eq!(sizes(&mut text), []);
        assert!(text.is_empty());
    }
}
