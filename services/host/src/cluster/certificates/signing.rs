//! Certificates from the cluster's own signers, by a CertificateSigningRequest.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use rcgen::{CertificateParams, DnType, KeyPair};

use crate::cluster::ClusterError;
use crate::cluster::connection::Identity;

/// How long a request may stay unanswered.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a request.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A certificate that is wanted.
pub(super) struct Wanted<'a> {
    /// The user, such as `system:node:NAME`.
    pub(super) user: &'a str,
    /// Whose request it is.
    pub(super) host: &'a str,
    /// The signer's name.
    pub(super) signer: &'a str,
    pub(super) usages: &'a [&'a str],
    /// What else is to be in it.
    pub(super) params: CertificateParams,
}

impl Wanted<'_> {
    /// Asks for it, with a new key, and waits until it is there.
    pub(super) async fn sign(mut self, client: &Client) -> Result<Identity, ClusterError> {
        let user = self.user.to_owned();
        let invalid = |source| ClusterError::Request { user: user.clone(), source };
        let key = KeyPair::generate().map_err(invalid)?;
        self.params.distinguished_name = rcgen::DistinguishedName::new();
        self.params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        self.params.distinguished_name.push(DnType::CommonName, &user);
        let request = self.params.serialize_request(&key).and_then(|request| request.pem()).map_err(invalid)?;
        let requests = Api::<CertificateSigningRequest>::all(client.clone());
        let object = CertificateSigningRequest {
            metadata: ObjectMeta { generate_name: Some(format!("{}-", self.host)), ..ObjectMeta::default() },
            spec: CertificateSigningRequestSpec {
                request: ByteString(request.into_bytes()),
                signer_name: self.signer.to_owned(),
                usages: Some(self.usages.iter().map(|usage| (*usage).to_owned()).collect()),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        };
        let made = requests.create(&PostParams::default(), &object).await;
        let made = made.map_err(ClusterError::asking(format!("request a certificate for {user}")))?;
        let name = made.metadata.name.unwrap_or_default();
        let certificate = wait_signed(&requests, &name, &user).await?;
        Ok(Identity { certificate, key: key.serialize_pem() })
    }
}

async fn wait_signed(
    requests: &Api<CertificateSigningRequest>,
    name: &str,
    user: &str,
) -> Result<String, ClusterError> {
    let not_signed =
        |problem: String| ClusterError::NotSigned { name: name.to_owned(), user: user.to_owned(), problem };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < deadline {
        let request = requests.get(name).await.map_err(ClusterError::asking(format!("read request {name}")))?;
        let status = request.status.unwrap_or_default();
        if let Some(certificate) = status.certificate {
            return Ok(String::from_utf8_lossy(&certificate.0).into_owned());
        }
        let refused = status.conditions.iter().flatten().find(|one| matches!(one.type_.as_str(), "Denied" | "Failed"));
        if let Some(refused) = refused {
            let why = refused.message.as_deref().unwrap_or_default();
            return Err(not_signed(format!("was {}: {why}", refused.type_.to_lowercase())));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(not_signed(
        "was not signed in time; is the controller running, and this machine's Host object as it should be?".to_owned(),
    ))
}
