//! The HTTPS server of the webhooks, and the HTTP one that says how the controller fares.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use monopod_http_serve::{Answer, accept, serve, serve_pages, text};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::certificates::Certificates;
use crate::known::Caches;
use crate::status::Status;

/// Largest review that is read; the API server's own limit for objects is 3 MiB.
const LARGEST: usize = 8 << 20;
/// How long a client has for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The settings of TLS with a certificate.
pub(crate) fn tls(certificates: &Certificates) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error + Send + Sync>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates.certificate.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(certificates.key.as_bytes())?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain?, key)?;
    Ok(Arc::new(config))
}

/// Serves the webhooks until told to stop; requests that came before are answered. New connections use the newest TLS.
pub(crate) async fn serve_webhooks(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    caches: Arc<Caches>,
    status: Arc<Status>,
    stop: CancellationToken,
) {
    let tasks = TaskTracker::new();
    accept(&listener, &stop, |stream| {
        let (acceptor, caches, status) =
            (TlsAcceptor::from(Arc::clone(&tls.borrow())), Arc::clone(&caches), Arc::clone(&status));
        let stop = stop.clone();
        tasks.spawn(async move {
            let secured = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
            let Ok(Ok(stream)) = secured else { return };
            let service = service_fn(|request| {
                let (caches, status) = (Arc::clone(&caches), Arc::clone(&status));
                async move { Ok::<_, Infallible>(review(&caches, &status, request).await) }
            });
            serve(TokioIo::new(stream), service, &stop).await;
        });
    })
    .await;
    tasks.close();
    tasks.wait().await;
}

/// Serves `/livez`, `/readyz`, `/metrics` and `/state` until told to stop.
pub(crate) async fn serve_status(listener: TcpListener, status: Arc<Status>, stop: CancellationToken) {
    serve_pages(listener, stop, move |path| tell(&status, path)).await;
}

async fn review(caches: &Caches, status: &Status, request: Request<Incoming>) -> Answer {
    let begun = Instant::now();
    let path = request.uri().path().to_owned();
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "reviews are posted\n");
    }
    let body = match Limited::new(request.into_body(), LARGEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("the review cannot be read: {error}\n")),
    };
    let answered = caches.answer(&path, &body);
    let outcome = answered.as_ref().err().map_or("answered", crate::webhook::ReviewError::reason);
    status.reviewed(&path, outcome, begun.elapsed());
    match answered {
        Ok(answer) => {
            let mut response = Response::new(Full::new(answer.into()));
            let json = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert(http::header::CONTENT_TYPE, json);
            response
        }
        Err(error) => {
            tracing::warn!(path, error = &error as &dyn std::error::Error, "a review is not answered");
            let code = match error {
                crate::webhook::ReviewError::UnknownPath { .. } => StatusCode::NOT_FOUND,
                crate::webhook::ReviewError::Malformed { .. } | crate::webhook::ReviewError::NoRequest { .. } => {
                    StatusCode::BAD_REQUEST
                }
                crate::webhook::ReviewError::Patch(_) | crate::webhook::ReviewError::Answer(_) => {
                    StatusCode::INTERNAL_SERVER_ERROR
                }
            };
            text(code, format!("{error}\n"))
        }
    }
}

fn tell(status: &Status, path: &str) -> Answer {
    match path {
        "/livez" | "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if status.is_ready() => text(StatusCode::OK, "ok\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: caches are being filled, or it is ending\n"),
        "/metrics" => text(StatusCode::OK, status.metrics()),
        "/state" => text(StatusCode::OK, format!("{:#}\n", status.state())),
        _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz, /metrics and /state\n"),
    }
}

/// Takes a port.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, std::io::Error> {
    TcpListener::bind(address).await
}
