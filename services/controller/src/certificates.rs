//! The certificate of the webhook server: made by ourselves, kept in a Secret that all replicas share, made anew in time. A Secret
//! without the authority's key is somebody else's, who looks after it.
//!
//! ```text
//! ca.crt   whom the API server is to believe: the authority, and the one before it
//! ca.key   the authority's key
//! tls.crt  the server's certificate, signed by one of them
//! tls.key  its key
//! ```
//! When a third of its life is left, a certificate is replaced. A new authority is told to the API server before anything is
//! signed by it: its first certificate comes a minute later, when every API server has heard of it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use monopod_api::names;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

/// Name of the Secret.
const NAME: &str = "monopod-webhook";
/// How long an authority lasts, and a certificate.
const AUTHORITY_DAYS: i64 = 730;
const SERVER_DAYS: i64 = 90;
/// Certificates count from so many seconds before they are made: clocks of machines differ.
const BEFORE: i64 = 3600;
/// For so many seconds a new authority signs nothing, unless there is nothing else.
const SETTLING: i64 = 60;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("failed to read or write Secret {}/{NAME}", names::SYSTEM_NAMESPACE)]
    Secret(#[from] kube::Error),
    #[error("failed to make a certificate")]
    Make(#[from] rcgen::Error),
    #[error(
        "Secret {}/{NAME} does not hold a usable certificate; delete it, and it is made anew",
        names::SYSTEM_NAMESPACE
    )]
    Unusable,
}

/// What the Secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificates {
    /// For the API server: one authority or two, as PEM.
    pub(crate) authorities: String,
    /// Empty where the certificate is given.
    authority_key: String,
    /// The server's certificate, as PEM.
    pub(crate) certificate: String,
    /// Its key, as PEM.
    pub(crate) key: String,
}

/// What is there now; it is made or renewed where need be. `hosts` are the names and addresses that the server has.
pub(crate) async fn current(client: &Client, hosts: &[String]) -> Result<Certificates, CertificateError> {
    let secrets = Api::<Secret>::namespaced(client.clone(), names::SYSTEM_NAMESPACE);
    loop {
        let found = secrets.get_opt(NAME).await?;
        let now = Timestamp::now();
        let before = found.as_ref().and_then(read);
        let Some(next) = next(before.as_ref(), hosts, now)? else {
            return before.ok_or(CertificateError::Unusable);
        };
        // With the version that was read: of several replicas one is quicker, and the others take what it has written.
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                resource_version: found.as_ref().and_then(|secret| secret.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(write(&next)),
            ..Secret::default()
        };
        let written = match found {
            Some(_) => secrets.replace(NAME, &PostParams::default(), &secret).await,
            None => secrets.create(&PostParams::default(), &secret).await,
        };
        match written {
            Ok(_) => return Ok(next),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn read(secret: &Secret) -> Option<Certificates> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
    Some(Certificates {
        authorities: text("ca.crt")?,
        authority_key: text("ca.key").unwrap_or_default(),
        certificate: text("tls.crt")?,
        key: text("tls.key")?,
    })
}

fn write(certificates: &Certificates) -> BTreeMap<String, ByteString> {
    let Certificates { authorities, authority_key, certificate, key } = certificates;
    let pairs = [("ca.crt", authorities), ("ca.key", authority_key), ("tls.crt", certificate), ("tls.key", key)];
    pairs.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes()))).collect()
}

/// What has to be written; nothing when all is well.
fn next(
    before: Option<&Certificates>,
    hosts: &[String],
    now: Timestamp,
) -> Result<Option<Certificates>, CertificateError> {
    let Some(before) = before else {
        let (authority, authority_key) = make_authority(now)?;
        let (certificate, key) = make_server(&authority, &authority_key, hosts, now)?;
        return Ok(Some(Certificates { authorities: authority, authority_key, certificate, key }));
    };
    if before.authority_key.is_empty() {
        return Ok(None);
    }
    let newest = first(&before.authorities);
    if !is_young(&newest, now) {
        let (authority, authority_key) = make_authority(now)?;
        let authorities = format!("{authority}{newest}");
        return Ok(Some(Certificates { authorities, authority_key, ..before.clone() }));
    }
    if is_young(&before.certificate, now)
        && is_signed_by(&before.certificate, &newest)
        && names(&before.certificate, hosts)
    {
        return Ok(None);
    }
    let is_usable = names(&before.certificate, hosts) && !has_ended(&before.certificate, now);
    if is_usable && is_settling(&newest, now) {
        return Ok(None);
    }
    let (certificate, key) = make_server(&newest, &before.authority_key, hosts, now)?;
    Ok(Some(Certificates { certificate, key, ..before.clone() }))
}

/// The first certificate of several.
fn first(pem: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----\n";
    pem.split_inclusive(END).next().unwrap_or_default().to_owned()
}

/// More than a third of its life is left.
fn is_young(pem: &str, now: Timestamp) -> bool {
    with_parsed(pem, |certificate| {
        let validity = certificate.validity();
        let (begin, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        end.saturating_sub(now.as_second()) > end.saturating_sub(begin) / 3
    })
}

fn has_ended(pem: &str, now: Timestamp) -> bool {
    !with_parsed(pem, |certificate| certificate.validity().not_after.timestamp() > now.as_second())
}

/// Whether an authority was made a moment ago.
fn is_settling(pem: &str, now: Timestamp) -> bool {
    with_parsed(pem, |certificate| {
        let made = certificate.validity().not_before.timestamp().saturating_add(BEFORE);
        now.as_second().saturating_sub(made) < SETTLING
    })
}

fn is_signed_by(pem: &str, authority: &str) -> bool {
    let subject = |pem: &str, issuer: bool| {
        let mut text = String::new();
        with_parsed(pem, |one| {
            text = if issuer { one.issuer().to_string() } else { one.subject().to_string() };
            true
        });
        text
    };
    subject(pem, true) == subject(authority, false)
}

/// Whether a certificate is for all of these names and addresses.
fn names(pem: &str, hosts: &[String]) -> bool {
    with_parsed(pem, |certificate| {
        let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return false };
        hosts.iter().all(|host| {
            alternatives.value.general_names.iter().any(|name| {
                if let GeneralName::IPAddress(bytes) = name {
                    let is_v4 = host.parse::<Ipv4Addr>().is_ok_and(|address| address.octets() == **bytes);
                    return is_v4 || host.parse::<Ipv6Addr>().is_ok_and(|address| address.octets() == **bytes);
                }
                matches!(name, GeneralName::DNSName(name) if name == host)
            })
        })
    })
}

fn with_parsed(pem: &str, ask: impl FnOnce(&x509_parser::certificate::X509Certificate<'_>) -> bool) -> bool {
    let Ok((_, pem)) = parse_x509_pem(pem.as_bytes()) else { return false };
    pem.parse_x509().is_ok_and(|certificate| ask(&certificate))
}

fn make_authority(now: Timestamp) -> Result<(String, String), CertificateError> {
    // The time makes the names of two authorities differ, so that who signed is told by name.
    let mut params = authority_params(&format!("monopod-webhook-{}", now.as_second()));
    last(&mut params, now, AUTHORITY_DAYS);
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

/// The common name of a certificate's subject.
fn common_name(pem: &str) -> String {
    let mut name = String::new();
    with_parsed(pem, |certificate| {
        let first = certificate.subject().iter_common_name().next();
        name = first.and_then(|one| one.as_str().ok()).unwrap_or_default().to_owned();
        true
    });
    name
}

fn make_server(
    authority: &str,
    authority_key: &str,
    hosts: &[String],
    now: Timestamp,
) -> Result<(String, String), CertificateError> {
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "monopod-webhook");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    last(&mut params, now, SERVER_DAYS);
    let signer = Issuer::new(authority_params(&common_name(authority)), KeyPair::from_pem(authority_key)?);
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, &signer)?.pem(), key.serialize_pem()))
}

/// Sets how long a certificate lasts.
fn last(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let moment = |seconds: i64| {
        time::OffsetDateTime::from_unix_timestamp(now.as_second().saturating_add(seconds))
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
    };
    params.not_before = moment(-BEFORE);
    params.not_after = moment(days.saturating_mul(86_400));
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{Certificates, first, is_signed_by, next};

    fn hosts() -> Vec<String> {
        ["monopod-webhook.monopod-system.svc", "10.0.0.1"].map(str::to_owned).into()
    }

    fn after(days: i64) -> Timestamp {
        Timestamp::now() + SignedDuration::from_hours(24 * days)
    }

    fn renewed(before: &Certificates, days: i64) -> Certificates {
        next(Some(before), &hosts(), after(days)).unwrap().unwrap()
    }

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        let made = next(None, &hosts(), Timestamp::now()).unwrap().unwrap();
        assert_eq!(next(Some(&made), &hosts(), after(59)).unwrap(), None);
        let later = renewed(&made, 61);
        assert_ne!(later.certificate, made.certificate);
        assert_eq!(later.authorities, made.authorities);
    }

    #[test]
    fn a_new_authority_is_told_before_it_signs() {
        let made = renewed(&next(None, &hosts(), Timestamp::now()).unwrap().unwrap(), 480);
        let fresh = renewed(&made, 500);
        assert_eq!(fresh.certificate, made.certificate);
        assert!(fresh.authorities.ends_with(&made.authorities) && fresh.authorities != made.authorities);
        assert!(next(Some(&fresh), &hosts(), after(500)).unwrap().is_none(), "not everybody has heard of it");
        let signed = renewed(&fresh, 501);
        assert!(is_signed_by(&signed.certificate, &first(&fresh.authorities)));
        assert_eq!(next(Some(&signed), &hosts(), after(501)).unwrap(), None);
    }

    #[test]
    fn a_certificate_that_is_given_is_left_alone() {
        let made = next(None, &hosts(), Timestamp::now()).unwrap().unwrap();
        let given = Certificates { authority_key: String::new(), ..made };
        assert_eq!(next(Some(&given), &hosts(), after(1000)).unwrap(), None);
    }

    #[test]
    fn other_names_need_another_certificate() {
        let made = next(None, &hosts(), Timestamp::now()).unwrap().unwrap();
        let other = [hosts(), vec!["10.0.0.2".to_owned()]].concat();
        assert!(next(Some(&made), &other, Timestamp::now()).unwrap().is_some());
    }
}
