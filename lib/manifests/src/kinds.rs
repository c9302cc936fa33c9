//! Which kinds Kubernetes has in the groups that are read here, so that a misspelt one is not taken for somebody else's.

/// Groups whose other versions are mistakes and not somebody else's objects.
const KNOWN_GROUPS: [&str; 5] = ["", "apps", "batch", "extensions", "node.k8s.io"];

/// All kinds of the groups that are read here (Kubernetes API reference), by API version.
const KINDS: [(&str, &[&str]); 4] = [
    (
        "v1",
        &[
            "Binding",
            "ComponentStatus",
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "List",
            "Namespace",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
            "Status",
        ],
    ),
    ("apps/v1", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("batch/v1", &["CronJob", "Job"]),
    ("node.k8s.io/v1", &["RuntimeClass"]),
];

/// An API version and a kind that do not go together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// `apiVersion` or `kind`, whichever is probably wrong.
    pub(crate) field: &'static str,
    /// What is wrong with it.
    pub(crate) message: String,
}

/// What is wrong with an object of a group that is known; `None` for other groups and for what Kubernetes has.
pub(crate) fn mistake(api_version: &str, kind: &str) -> Option<Mistake> {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let single = kind.strip_suffix("List").filter(|single| !single.is_empty()).unwrap_or(kind);
    match versions_of(single).as_slice() {
        _ if !KNOWN_GROUPS.contains(&group) => None,
        [] => unknown_kind(api_version, single),
        expected if expected.contains(&api_version) => None,
        expected => {
            let message = format!("a {kind} is of {}, not of {api_version}", expected.join(" or "));
            Some(Mistake { field: "apiVersion", message })
        }
    }
}

fn versions_of(kind: &str) -> Vec<&'static str> {
    KINDS.iter().filter(|(_, kinds)| kinds.contains(&kind)).map(|(version, _)| *version).collect()
}

/// A kind that is in none of the lists. In another version of a known group it may be one that has moved on, such as an
/// Ingress of `extensions/v1beta1`.
fn unknown_kind(api_version: &str, kind: &str) -> Option<Mistake> {
    let is_listed = KINDS.iter().any(|(version, _)| *version == api_version);
    let message = match nearest(kind) {
        Some((version, near)) if version == api_version => format!("did you mean {near}?"),
        Some((version, near)) => format!("did you mean {near} of {version}?"),
        None if is_listed => "kinds of other groups need the API version of their group".to_owned(),
        None => return None,
    };
    Some(Mistake { field: "kind", message: format!("there is no {kind} in {api_version}; {message}") })
}

/// The kind that is written most like this one, if any is.
fn nearest(kind: &str) -> Option<(&'static str, &'static str)> {
    let all = KINDS.iter().flat_map(|(version, kinds)| kinds.iter().map(move |near| (*version, *near)));
    let scored = all.filter_map(|(version, near)| {
        let edits = edits_between(&kind.to_ascii_lowercase(), &near.to_ascii_lowercase())?;
        (edits <= 2 && edits * 3 <= near.len()).then_some((edits, version, near))
    });
    scored.min().map(|(_, version, near)| (version, near))
}

/// How many characters have to be put in, taken out or replaced to make one text of the other; `None` where the
/// lengths alone differ by more than two.
fn edits_between(one: &str, other: &str) -> Option<usize> {
    if one.len().abs_diff(other.len()) > 2 {
        return None;
    }
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, character) in one.chars().enumerate() {
        let mut above = std::mem::replace(row.first_mut()?, line + 1);
        for (column, against) in other.iter().enumerate() {
            let replaced = above + usize::from(character != *against);
            above = row[column + 1];
            row[column + 1] = replaced.min(above + 1).min(row[column] + 1);
        }
    }
    row.last().copied()
}
