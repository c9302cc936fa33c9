//! The HTTP client for one server, with its certificates.

use std::path::Path;
use std::sync::Arc;

use reqwest::{Client, redirect};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::Patience;
use crate::error::ImageError;
use crate::registries::Server;

const MAX_REDIRECTS: usize = 5;

/// A client for a server.
pub(super) fn client(server: &Server, patience: &Patience) -> Result<Client, ImageError> {
    let is_plain = server.url.scheme() == "http";
    let redirects = redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error("too many redirects");
        }
        if !is_plain && attempt.url().scheme() != "https" {
            return attempt.error("a redirect away from HTTPS");
        }
        attempt.follow()
    });
    let builder = Client::builder()
        .tls_backend_preconfigured(tls(server)?)
        .user_agent(concat!("monopod/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(patience.connect)
        .redirect(redirects)
        .referer(false);
    builder.build().map_err(|error| super::transport(&server.url, error))
}

fn tls(server: &Server) -> Result<ClientConfig, ImageError> {
    let provider = Arc::new(ring::default_provider());
    let broken = |error: rustls::Error| problem(server, Path::new(""), &error.to_string());
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = versions.map_err(broken)?;
    let builder = if server.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    } else {
        builder.with_root_certificates(roots(server)?)
    };
    let Some(client) = &server.client else { return Ok(builder.with_no_client_auth()) };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&client.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| problem(server, &client.certificate, &error.to_string()));
    let key = PrivateKeyDer::from_pem_file(&client.key);
    let key = key.map_err(|error| problem(server, &client.key, &error.to_string()))?;
    builder.with_client_auth_cert(certificates?, key).map_err(broken)
}

/// The certificates that we trust: those of the file if one is given, else the system's.
fn roots(server: &Server) -> Result<RootCertStore, ImageError> {
    let mut roots = RootCertStore::empty();
    if server.url.scheme() == "http" {
        // Without TLS nobody is asked for a certificate; a redirect to TLS needs the system's.
    } else if let Some(ca) = &server.ca {
        let read = CertificateDer::pem_file_iter(ca).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        for certificate in read.map_err(|error| problem(server, ca, &error.to_string()))? {
            roots.add(certificate).map_err(|error| problem(server, ca, &error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(problem(server, ca, "no certificate in it"));
        }
        return Ok(roots);
    }
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's certificates cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    Ok(roots)
}

fn problem(server: &Server, path: &Path, problem: &str) -> ImageError {
    let problem = format!("{}: {problem}", super::shown(&server.url));
    ImageError::Registries { path: path.to_owned(), problem }
}

/// Takes any certificate, for registries that users have told us not to check.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
