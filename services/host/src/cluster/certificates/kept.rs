//! Certificates in files, and how long they are good for.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use jiff::Timestamp;
use x509_parser::pem::parse_x509_pem;

use crate::cluster::ClusterError;
use crate::cluster::connection::Identity;

/// A certificate is made anew when this part of its life is left.
const LEFT: i64 = 5;

/// What a file holds: the key and then the certificate, as PEM.
pub(super) fn read(file: &Path) -> Option<Identity> {
    let text = std::fs::read_to_string(file).ok()?;
    let (key, certificate) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    Some(Identity { certificate: format!("-----BEGIN CERTIFICATE-----{certificate}"), key: key.to_owned() })
}

/// Replaces what a file holds, in one step.
pub(super) fn write(file: &Path, identity: &Identity) -> Result<(), ClusterError> {
    let fresh = file.with_extension("new");
    let written = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut open| open.write_all(format!("{}{}", identity.key, identity.certificate).as_bytes()))
        .and_then(|()| std::fs::rename(&fresh, file));
    written.map_err(|source| ClusterError::Io { action: format!("write {}", file.display()), source })
}

/// When a certificate is to be made anew: when a fifth of its life is left. At once when it cannot be read.
pub(super) fn renew_at(certificate: &str) -> Timestamp {
    let read = || {
        let (_, pem) = parse_x509_pem(certificate.as_bytes()).ok()?;
        let validity = pem.parse_x509().ok()?.validity().clone();
        let (begin, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Timestamp::from_second(end.saturating_sub(end.saturating_sub(begin) / LEFT)).ok()
    };
    read().unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rcgen::{CertificateParams, KeyPair};
    use time::OffsetDateTime;

    use super::{read, renew_at, write};
    use crate::cluster::connection::Identity;

    fn identity(begin: i64, end: i64) -> Identity {
        let moment = |second| OffsetDateTime::from_unix_timestamp(second).unwrap();
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (moment(begin), moment(end));
        let key = KeyPair::generate().unwrap();
        Identity { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }

    #[test]
    fn a_certificate_is_made_anew_when_a_fifth_of_its_life_is_left() {
        for (begin, end, at) in [(1000, 2000, 1800), (0, 31_536_000, 25_228_800)] {
            assert_eq!(renew_at(&identity(begin, end).certificate), Timestamp::from_second(at).unwrap());
        }
        assert_eq!(renew_at("no certificate"), Timestamp::MIN);
    }

    #[test]
    fn a_file_gives_back_what_was_written_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pem");
        assert!(read(&file).is_none());
        let identity = identity(1000, 2000);
        write(&file, &identity).unwrap();
        let back = read(&file).unwrap();
        assert_eq!((back.certificate, back.key), (identity.certificate, identity.key));
        std::fs::write(&file, "half a key").unwrap();
        assert!(read(&file).is_none());
    }
}
