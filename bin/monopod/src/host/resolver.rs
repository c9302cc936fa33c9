//! The name servers of Pods that do not use a cluster's: this machine's own.

use std::path::Path;

use monopod_podplan::plan::ResolvConf;

use super::StartError;

/// Where the machine's programs look.
const COMMON: &str = "/etc/resolv.conf";
/// The servers that systemd-resolved asks; the common file then names only its own address on the loopback.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Reads the file that was named, or the machine's.
///
/// # Errors
/// When a file that was named cannot be read.
pub(super) fn read(named: Option<&Path>) -> Result<ResolvConf, StartError> {
    let found = match named {
        Some(path) => parse(path)?,
        None => choose(parse(Path::new(COMMON)).unwrap_or_default(), || parse(Path::new(RESOLVED)).ok()),
    };
    if found.nameservers.is_empty() {
        let file = named.map_or_else(|| COMMON.to_owned(), |path| path.display().to_string());
        tracing::warn!(
            "{file} names no name server that Pods can reach, so they cannot resolve names; name a file with --resolv-conf"
        );
    }
    Ok(found)
}

fn parse(path: &Path) -> Result<ResolvConf, StartError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| StartError::Io { action: format!("failed to read {}", path.display()), source })?;
    Ok(ResolvConf::parse(&text).without_loopback())
}

fn choose(common: ResolvConf, resolved: impl FnOnce() -> Option<ResolvConf>) -> ResolvConf {
    if common.nameservers.is_empty() { resolved().unwrap_or(common) } else { common }
}

#[cfg(test)]
mod tests {
    use monopod_podplan::plan::ResolvConf;

    use super::{choose, read};

    fn servers(names: &[&str]) -> ResolvConf {
        ResolvConf { nameservers: names.iter().map(ToString::to_string).collect(), ..ResolvConf::default() }
    }

    #[test]
    fn servers_on_the_loopback_are_left_out_of_a_named_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nameserver 127.0.0.53\nnameserver 10.1.2.3\nsearch shop.example\n").unwrap();
        let read = read(Some(file.path())).unwrap();
        assert_eq!((read.nameservers, read.searches), (vec!["10.1.2.3".to_owned()], vec!["shop.example".to_owned()]));
    }

    #[test]
    fn a_named_file_that_is_not_there_is_an_error() {
        let error = read(Some("/nowhere/resolv.conf".as_ref())).unwrap_err();
        assert_eq!(error.to_string(), "failed to read /nowhere/resolv.conf");
    }

    #[test]
    fn the_servers_behind_systemd_resolved_count_where_the_common_file_has_none() {
        assert_eq!(choose(servers(&[]), || Some(servers(&["10.0.0.1"]))), servers(&["10.0.0.1"]));
        assert_eq!(choose(servers(&["10.0.0.2"]), || Some(servers(&["10.0.0.1"]))), servers(&["10.0.0.2"]));
        assert_eq!(choose(servers(&[]), || None), servers(&[]));
    }
}
