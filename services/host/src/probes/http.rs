//! HTTP and HTTPS, certificates unverified: a probe asks whether something answers, not who it is.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use monopod_podplan::life::{HttpRequest, ProbeOutcome};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::{MAX_ANSWER, ProberError, authority, system_words};

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 10;

#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
}

impl Client {
    pub(super) fn new() -> Result<Self, ProberError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(ProberError::Tls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .http1_only()
            .pool_max_idle_per_host(0)
            .redirect(Policy::custom(|attempt| {
                let first = attempt.previous().first().and_then(|url| url.host_str().map(str::to_owned));
                if attempt.url().host_str() != first.as_deref() {
                    attempt.stop()
                } else if attempt.previous().len() >= MAX_REDIRECTS {
                    attempt.error("stopped after 10 redirects")
                } else {
                    attempt.follow()
                }
            }))
            .build()
            .map_err(ProberError::Http)?;
        Ok(Self { http })
    }

    pub(super) async fn probe(&self, request: &HttpRequest, timeout: Duration) -> ProbeOutcome {
        let response = match self.get(request, Some(timeout)).await {
            Ok(response) => response,
            Err(message) => return ProbeOutcome::Failure(message),
        };
        let status = response.status();
        if status.is_redirection() {
            let answer = first_bytes(response).await;
            return ProbeOutcome::Warning(format!("Probe terminated redirects, Response body: {answer}"));
        }
        if (StatusCode::OK..StatusCode::BAD_REQUEST).contains(&status) {
            return ProbeOutcome::Success;
        }
        ProbeOutcome::Failure(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
    }

    pub(super) async fn hook(&self, request: &HttpRequest, timeout: Option<Duration>) -> Result<(), String> {
        self.get(request, timeout).await.map(drop)
    }

    async fn get(&self, request: &HttpRequest, timeout: Option<Duration>) -> Result<Response, String> {
        let scheme = if request.is_https { "https" } else { "http" };
        let address = authority(&request.host, request.port);
        let url = format!("{scheme}://{address}{}", request.path);
        let builder = self.http.get(&url).headers(headers(&request.headers));
        let builder = if let Some(timeout) = timeout { builder.timeout(timeout) } else { builder };
        builder.send().await.map_err(|error| format!("Get \"{url}\": {}", words(&error, &address)))
    }
}

fn headers(named: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in named {
        // The API server has checked names; what HTTP cannot carry is left out, as Go does.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    }
    headers
}

/// An error as Go's HTTP client would say it.
fn words(error: &reqwest::Error, address: &str) -> String {
    if error.is_timeout() {
        return "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned();
    }
    let chain = std::iter::successors(error.source(), |error| (*error).source());
    let mut last = error.to_string();
    for cause in chain {
        if let Some(system) = cause.downcast_ref::<std::io::Error>()
            && system.raw_os_error().is_some()
        {
            let words = system_words(system);
            return if error.is_connect() { format!("dial tcp {address}: {words}") } else { words };
        }
        last = cause.to_string();
    }
    last
}

/// The begin of a body, as text.
async fn first_bytes(mut response: Response) -> String {
    let mut answer = Vec::new();
    while answer.len() < MAX_ANSWER
        && let Ok(Some(chunk)) = response.chunk().await
    {
        answer.extend_from_slice(&chunk);
    }
    answer.truncate(MAX_ANSWER);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Takes every certificate; signatures must still be right for the handshake to come off.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
