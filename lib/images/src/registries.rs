//! How registries are reached: mirrors and TLS, from a YAML file. docs/images.md describes it to users.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::Deserialize;

use crate::error::ImageError;

#[cfg(test)]
mod tests;

/// Where to ask for the images of each registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries {
    /// By the registry's name in references; `*` is for all that have no entry of their own.
    entries: BTreeMap<String, Registry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Registry {
    server: Option<Server>,
    mirrors: Vec<Server>,
    mirrors_only: bool,
}

/// One place to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) url: Url,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) client: Option<ClientCertificate>,
    pub(crate) skip_verify: bool,
    pub(crate) is_mirror: bool,
}

/// A certificate by which we show who we are, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    #[serde(default)]
    registries: BTreeMap<String, RegistryFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RegistryFile {
    server: Option<ServerFile>,
    #[serde(default)]
    mirrors: Vec<ServerFile>,
    #[serde(default)]
    mirrors_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ServerFile {
    url: Option<String>,
    ca: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    #[serde(default)]
    skip_verify: bool,
}

impl Registries {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or says something that we do not know.
    pub fn read(path: &Path) -> Result<Self, ImageError> {
        let text = std::fs::read_to_string(path).map_err(|error| ImageError::io("read", path, error))?;
        Self::parse(&text).map_err(|problem| ImageError::Registries { path: path.to_owned(), problem })
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// The problem in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let entry = |(name, registry): (String, RegistryFile)| Ok((name.clone(), registry.checked(&name)?));
        let entries: Result<_, String> = file.registries.into_iter().map(entry).collect();
        Ok(Self { entries: entries? })
    }

    /// Where to ask for images of a registry, in this order.
    pub(crate) fn servers(&self, domain: &str) -> Vec<Server> {
        let Some(registry) = self.entries.get(domain).or_else(|| self.entries.get("*")) else {
            return default_server(domain).into_iter().collect();
        };
        let mut servers = registry.mirrors.clone();
        if !registry.mirrors_only {
            let server = registry.server.clone();
            servers.extend(server.or_else(|| default_server(domain)));
        }
        servers
    }
}

impl RegistryFile {
    fn checked(self, name: &str) -> Result<Registry, String> {
        if self.mirrors_only && self.mirrors.is_empty() {
            return Err(format!("registries.{name}: mirrorsOnly without mirrors leaves nobody to ask"));
        }
        if name == "*" && self.server.as_ref().is_some_and(|server| server.url.is_some()) {
            return Err("registries.*: a server for all registries is a mirror".to_owned());
        }
        let mirror = |(at, mirror): (usize, ServerFile)| {
            let field = format!("registries.{name}.mirrors[{at}]");
            let url = mirror.url.clone().ok_or_else(|| format!("{field}: a mirror needs a url"))?;
            mirror.checked(&field, &url, true)
        };
        let mirrors: Result<_, String> = self.mirrors.into_iter().enumerate().map(mirror).collect();
        let server = match self.server {
            Some(_) if name == "*" => return Err("registries.*: only mirrors can be given for all".to_owned()),
            Some(server) => {
                let usual = default_server(name).map(|server| server.url.to_string());
                let url =
                    server.url.clone().or(usual).ok_or_else(|| format!("registries.{name}: no name of a host"))?;
                Some(server.checked(&format!("registries.{name}.server"), &url, false)?)
            }
            None => None,
        };
        Ok(Registry { server, mirrors: mirrors?, mirrors_only: self.mirrors_only })
    }
}

impl ServerFile {
    fn checked(self, field: &str, url: &str, is_mirror: bool) -> Result<Server, String> {
        let mut url = Url::parse(url).map_err(|error| format!("{field}.url: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(format!("{field}.url: must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(format!("{field}.url: no user, query or fragment; credentials come from pull secrets"));
        }
        let is_plain = url.scheme() == "http";
        if is_plain && (self.ca.is_some() || self.client_certificate.is_some() || self.skip_verify) {
            return Err(format!("{field}: TLS settings for a plain http:// url"));
        }
        let client = match (self.client_certificate, self.client_key) {
            (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
            (None, None) => None,
            (Some(_) | None, Some(_) | None) => {
                return Err(format!("{field}: clientCertificate and clientKey belong together"));
            }
        };
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Server { url, ca: self.ca, client, skip_verify: self.skip_verify, is_mirror })
    }
}

/// Where a registry is when nothing else is said: by HTTPS under its own name, without TLS on this machine.
fn default_server(domain: &str) -> Option<Server> {
    let host = if domain == "docker.io" { "registry-1.docker.io" } else { domain };
    let scheme = if is_local(host) { "http" } else { "https" };
    let url = Url::parse(&format!("{scheme}://{host}")).ok()?;
    Some(Server { url, ca: None, client: None, skip_verify: false, is_mirror: false })
}

fn is_local(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_loopback = |text: &str| text.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    name == "localhost" || is_loopback(name) || is_loopback(name.trim_matches(['[', ']']))
}
