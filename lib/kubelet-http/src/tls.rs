//! TLS of a node's port: its serving certificate, and whose client certificates count.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::auth::User;

/// The certificate and key of a node's port.
#[derive(Debug)]
pub struct ServingIdentity {
    /// The certificate, and those between it and the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// Certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or nothing in it.
    #[error("failed to read the {what}")]
    Pem {
        /// What was to be read.
        what: &'static str,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// Client certificates could not be verified with these.
    #[error("failed to use the certificates of the client authority")]
    ClientAuthority(#[from] rustls::client::VerifierBuilderError),
    /// The certificate and its key cannot be used.
    #[error("failed to use the serving certificate")]
    Identity(#[from] rustls::Error),
}

impl ServingIdentity {
    /// Reads both from PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|source| TlsError::Pem { what: "key of the serving certificate", source })?;
        Ok(Self { chain: certificates("serving certificate", chain)?, key })
    }
}

/// Reads the certificates of the cluster's client authority.
pub fn client_authority(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates("certificates of the client authority", pem)
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|source| TlsError::Pem { what, source })?;
    if all.is_empty() {
        return Err(TlsError::Pem { what, source: rustls::pki_types::pem::Error::NoItemsFound });
    }
    Ok(all)
}

/// How a node speaks TLS. A client may have no certificate; one that the authority did not sign ends the handshake.
pub fn server_config(
    identity: ServingIdentity,
    client_authority: &[CertificateDer<'static>],
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in client_authority {
        roots.add(certificate.clone())?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.allow_unauthenticated().build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain, identity.key)?;
    // Connections become ones of streams, which HTTP/2 does otherwise.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Who a verified certificate is: its common name, in the groups of its organisations.
pub(crate) fn user(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|one| one.as_str().ok()).map(str::to_owned).collect();
    let id = format!("X509SHA256={}", hex::encode(Sha256::digest(certificate)));
    let extra = BTreeMap::from([("authentication.kubernetes.io/credential-id".to_owned(), vec![id])]);
    Some(User { name, uid: None, groups, extra }).filter(|user| !user.name.is_empty())
}
