//! Accepts HTTP connections until told to stop, and answers what came before: what the servers of our daemons share.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a connection may rest between requests.
const REST: Duration = Duration::from_secs(90);
/// How long accepting rests after it failed.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// A whole answer.
pub type Answer = Response<Full<Bytes>>;

/// An answer of plain text.
pub fn text(code: StatusCode, text: impl Into<String>) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(text.into())));
    *response.status_mut() = code;
    response
}

/// What a registry holds, as Prometheus reads it.
pub fn metrics(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to text cannot fail, and whoever encodes says nothing else.
    let _ = encode(&mut text, registry);
    text
}

/// Answers requests by their path, without regard to method and body, until told to stop.
pub async fn serve_pages(
    listener: TcpListener,
    stop: CancellationToken,
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) {
    let (tasks, answer) = (TaskTracker::new(), Arc::new(answer));
    accept(&listener, &stop, |stream| {
        let (answer, stop) = (Arc::clone(&answer), stop.clone());
        tasks.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(request.uri().path());
                async move { Ok::<_, Infallible>(answer) }
            });
            serve(TokioIo::new(stream), service, &stop).await;
        });
    })
    .await;
    tasks.close();
    tasks.wait().await;
}

/// Accepts connections until told to stop.
pub async fn accept(listener: &TcpListener, stop: &CancellationToken, take: impl Fn(TcpStream)) {
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => take(stream),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "failed to accept a connection");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
}

/// Serves one connection. When told to stop, the request that is being answered is the last.
pub async fn serve<I, S>(stream: I, service: S, stop: &CancellationToken)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: Service<Request<Incoming>, Response = Answer, Error = Infallible>,
{
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(REST);
    let mut connection = std::pin::pin!(server.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    use super::{serve_pages, text};

    #[tokio::test]
    async fn pages_are_answered_by_path_until_told_to_stop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let serving = tokio::spawn(serve_pages(listener, stop.clone(), |path| match path {
            "/livez" => text(StatusCode::OK, "ok\n"),
            other => text(StatusCode::NOT_FOUND, format!("no {other}\n")),
        }));
        for (path, first, last) in [("/livez", "HTTP/1.1 200 OK", "ok"), ("/x", "HTTP/1.1 404 Not Found", "no /x")] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!((answer.lines().next(), answer.lines().last()), (Some(first), Some(last)));
        }
        // A connection that rests does not hold it up.
        let _resting = TcpStream::connect(address).await.unwrap();
        stop.cancel();
        serving.await.unwrap();
    }
}
