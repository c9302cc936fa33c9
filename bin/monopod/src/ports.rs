//! Ports of this machine that lead to ports of Pods, as they are written on the command line.

use std::net::IpAddr;
use std::str::FromStr;

use monopod_host_proto::v1::PublishedPort;

/// `HOST:POD` or `ADDRESS:HOST:POD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Publication {
    address: Option<IpAddr>,
    pub(crate) pair: PortPair,
}

/// `LOCAL:POD`, or one number for both; 0 for LOCAL takes a free port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortPair {
    pub(crate) local: u16,
    pub(crate) pod: u16,
}

/// Not a port, or not in this form.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error("{0:?} is not a port from 1 to 65535")]
    Port(String),
    #[error("{0:?} is not an IP address")]
    Address(String),
}

impl FromStr for PortPair {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let (local, pod) = text.split_once(':').unwrap_or((text, text));
        let port = |text: &str| text.parse::<u16>().map_err(|_| PortError::Port(text.to_owned()));
        // As kubectl has it, `:80` takes a free port.
        let local = if local.is_empty() { 0 } else { port(local)? };
        match port(pod)? {
            0 => Err(PortError::Port(pod.to_owned())),
            pod => Ok(Self { local, pod }),
        }
    }
}

impl FromStr for Publication {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        // The address may hold colons itself; the ports are the last two parts.
        let mut parts = text.rsplitn(3, ':');
        let (pod, local, address) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let pair = match local {
            Some(local) => format!("{local}:{pod}").parse()?,
            None => pod.parse()?,
        };
        let address = address.map(|text| {
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            bare.parse().map_err(|_| PortError::Address(text.to_owned()))
        });
        Ok(Self { address: address.transpose()?, pair })
    }
}

impl From<&Publication> for PublishedPort {
    fn from(publication: &Publication) -> Self {
        Self {
            host_address: publication.address.map(|address| address.to_string()).unwrap_or_default(),
            host_port: publication.pair.local.into(),
            pod_port: publication.pair.pod.into(),
        }
    }
}

/// The address that a published port listens on.
pub(crate) fn shown_address(address: &str) -> &str {
    if address.is_empty() { "127.0.0.1" } else { address }
}

#[cfg(test)]
mod tests {
    use super::{PortPair, Publication, PublishedPort};

    #[test]
    fn ports_are_written_as_kubectl_and_podman_have_them() {
        for (text, local, pod) in [("8080:80", 8080, 80), ("80", 80, 80), (":80", 0, 80), ("0:80", 0, 80)] {
            assert_eq!(text.parse::<PortPair>().unwrap(), PortPair { local, pod }, "{text}");
        }
        for (text, address, local, pod) in
            [("8080:80", "", 8080, 80), ("0.0.0.0:8080:80", "0.0.0.0", 8080, 80), ("[::1]:8080:80", "::1", 8080, 80)]
        {
            let port = PublishedPort::from(&text.parse::<Publication>().unwrap());
            assert_eq!((&*port.host_address, port.host_port, port.pod_port), (address, local, pod), "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_named() {
        for (text, message) in [
            ("web:80", "\"web\" is not a port from 1 to 65535"),
            ("8080:0", "\"0\" is not a port from 1 to 65535"),
            ("nowhere:8080:80", "\"nowhere\" is not an IP address"),
        ] {
            assert_eq!(text.parse::<Publication>().unwrap_err().to_string(), message);
        }
    }
}
