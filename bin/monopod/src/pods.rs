//! How commands name Pods, containers and files in them.

use std::fmt;
use std::str::FromStr;

use monopod_host_proto::v1::PodName;

/// Which Pod is meant.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PodArgument {
    /// The Pod.
    #[arg(value_name = "[NAMESPACE/]POD")]
    pod: Named,
    /// Namespace of the Pod, where its name does not say it.
    #[arg(short, long)]
    namespace: Option<String>,
}

/// A Pod's name as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    namespace: Option<String>,
    name: String,
}

/// Not the name of a Pod.
#[derive(Debug, thiserror::Error)]
#[error("not a Pod's name; write POD or NAMESPACE/POD")]
pub(crate) struct NotAName;

impl FromStr for Named {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let (namespace, name) = match text.split_once('/') {
            // As kubectl writes it.
            Some(("pod" | "pods" | "po", name)) => (None, name),
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
            None => (None, text),
        };
        let is_empty = namespace.as_deref() == Some("");
        if is_empty || name.is_empty() || name.contains('/') {
            return Err(NotAName);
        }
        Ok(Self { namespace, name: name.to_owned() })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Named {
    /// The name as the daemon wants it.
    pub(crate) fn to_proto(&self, namespace: Option<&str>) -> PodName {
        let namespace = self.namespace.as_deref().or(namespace).unwrap_or_default();
        PodName { namespace: namespace.to_owned(), name: self.name.clone() }
    }
}

impl PodArgument {
    /// The name as the daemon wants it.
    pub(crate) fn to_proto(&self) -> PodName {
        self.pod.to_proto(self.namespace.as_deref())
    }
}

/// A Pod's name as it is shown: without the namespace `default`.
pub(crate) fn shown(pod: &PodName) -> String {
    if pod.namespace.is_empty() || pod.namespace == "default" {
        pod.name.clone()
    } else {
        format!("{}/{}", pod.namespace, pod.name)
    }
}

#[cfg(test)]
mod tests {
    use super::Named;

    #[test]
    fn a_pod_is_named_with_or_without_its_namespace() {
        for (text, namespace, name) in [("web", "", "web"), ("shop/web", "shop", "web"), ("pod/web", "", "web")] {
            let proto = text.parse::<Named>().unwrap().to_proto(None);
            assert_eq!((proto.namespace.as_str(), proto.name.as_str()), (namespace, name), "{text}");
        }
        assert_eq!("web".parse::<Named>().unwrap().to_proto(Some("shop")).namespace, "shop");
        for text in ["", "/web", "shop/", "a/b/c"] {
            assert!(text.parse::<Named>().is_err(), "{text}");
        }
    }
}
