//! Why the link to a cluster does not come about.

/// Why the link to a cluster does not come about.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There can be no client for the API server.
    #[error("failed to connect to the API server as {user}")]
    Client {
        /// Who wanted to.
        user: String,
        /// What is wrong with the address or the certificates.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not do something.
    #[error("failed to {what}")]
    Ask {
        /// Such as `read Host a`.
        what: String,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },
    /// A key or a request for a certificate cannot be made.
    #[error("failed to make a certificate request for {user}")]
    Request {
        /// For whom.
        user: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// Nobody signed a certificate in time, or it was denied.
    #[error("certificate signing request {name} for {user} {problem}")]
    NotSigned {
        /// Name of the request.
        name: String,
        /// For whom.
        user: String,
        /// What has become of it, and what to do.
        problem: String,
    },
    /// A certificate cannot be used.
    #[error("the certificate of {user} cannot be used")]
    Certificate {
        /// Whose.
        user: String,
        /// Why.
        #[source]
        source: monopod_kubelet_http::TlsError,
    },
    /// Files of certificates cannot be read or written.
    #[error("failed to {action}")]
    Io {
        /// Such as `write /var/lib/monopod/nodes/a.pem`.
        action: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The Subnet's domain makes no names of nodes.
    #[error(transparent)]
    Name(#[from] monopod_policy::record::NameError),
    /// The controller has changed the blocks of this Host.
    #[error("the address blocks of this host have changed; the daemon starts anew with them")]
    BlocksChanged,
}

impl ClusterError {
    /// Event reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Client { .. } => "ClientInvalid",
            Self::Ask { .. } => "ApiServerRefused",
            Self::Request { .. } => "CertificateRequestFailed",
            Self::NotSigned { .. } => "CertificateNotSigned",
            Self::Certificate { .. } => "CertificateInvalid",
            Self::Io { .. } => "CertificateFileFailed",
            Self::Name(error) => error.reason(),
            Self::BlocksChanged => "AddressBlocksChanged",
        }
    }

    /// For `map_err`.
    pub(super) fn asking(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Ask { what, source: Box::new(source) }
    }

    /// Whether the API server has said no, so that asking again at once is of no use.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Ask { source, .. } if matches!(&**source, kube::Error::Api(status) if (400..429).contains(&status.code)))
    }
}
