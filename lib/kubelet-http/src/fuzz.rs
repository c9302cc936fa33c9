//! Ways in for the fuzz targets of fuzz/: connections on which anything is said. Not for other use.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::spdy::{SpdyStream, serve};

/// Longer than any input takes.
const IDLE: Duration = Duration::from_secs(3600);

/// Says bytes as a client of SPDY, to a server that takes every stream and sends back what comes on it. Ends when the
/// connection does.
pub async fn spdy(bytes: &[u8]) {
    let (near, far) = tokio::io::duplex(4096);
    let (connection, mut opened) = serve(near, IDLE);
    let (mut read, mut write) = tokio::io::split(far);
    let say = async {
        let _ = write.write_all(bytes).await;
        let _ = write.shutdown().await;
    };
    let hear = async {
        let mut buffer = [0; 4096];
        while read.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
    };
    let serve = async move {
        while let Some(stream) = opened.recv().await {
            tokio::spawn(echo(stream));
        }
        drop(connection);
    };
    tokio::join!(say, hear, serve);
}

async fn echo(mut stream: SpdyStream) {
    stream.accept().await;
    while let Some(data) = stream.input.recv().await {
        if stream.output.send(data).await.is_err() {
            return;
        }
    }
    stream.output.finish().await;
}
