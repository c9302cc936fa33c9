//! As much HTTP/1.1 as pushing to a registry and standing in front of one takes.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes of a head, at most.
const MAX_HEAD: usize = 64 << 10;

/// The first line and the headers of a request or an answer.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) first: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        let headers: String = self.headers.iter().map(|(key, value)| format!("{key}: {value}\r\n")).collect();
        format!("{}\r\n{headers}\r\n", self.first)
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: Head,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.head.first, String::from_utf8_lossy(&self.body))
    }
}

/// Reads a head; what has come of the body is left in the buffer.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<Option<Head>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end + 4);
            let mut lines = text.split("\r\n");
            let first = lines.next().unwrap_or_default().to_owned();
            let header =
                |line: &str| line.split_once(':').map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
            return Ok(Some(Head { first, headers: lines.filter_map(header).collect() }));
        }
        ensure!(buffer.len() < MAX_HEAD, "a head without end");
        if stream.read_buf(buffer).await.context("failed to read a head")? == 0 {
            return Ok(None);
        }
    }
}

/// Asks, and reads the whole answer.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("failed to reach {address}"))?;
    let headers: String = headers.iter().map(|(key, value)| format!("{key}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).await.context("failed to ask")?;
    stream.write_all(body).await.context("failed to ask")?;
    let mut buffer = Vec::new();
    let head = read_head(&mut stream, &mut buffer).await?.context("no answer")?;
    stream.read_to_end(&mut buffer).await.context("failed to read an answer")?;
    let status = head.first.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    Ok(Answer { status, head, body: buffer })
}
