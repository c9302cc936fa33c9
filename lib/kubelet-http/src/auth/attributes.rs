//! What a request means in the words of RBAC: a verb on a subresource of the node.

use hyper::Method;

/// The verb of a method; empty for one that has none, which nobody is allowed.
pub(crate) fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// The subresources of which any is enough, the narrowest first.
pub(crate) fn subresources(path: &str) -> Vec<&'static str> {
    let is_below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let broad = [
        ("/stats", "stats"),
        ("/metrics", "metrics"),
        ("/logs", "log"),
        ("/checkpoint", "checkpoint"),
        ("/statusz", "statusz"),
        ("/flagz", "configz"),
    ];
    let fine = [("/pods", "pods"), ("/healthz", "healthz"), ("/configz", "configz"), ("/runningpods", "pods")];
    let find = |all: &[(&str, &'static str)]| all.iter().find(|(root, _)| is_below(root)).map(|(_, name)| *name);
    find(&fine).into_iter().chain([find(&broad).unwrap_or("proxy")]).collect()
}

#[cfg(test)]
mod tests {
    use hyper::Method;

    use super::{subresources, verb};

    #[test]
    fn paths_map_to_subresources_as_in_the_kubelet() {
        for (path, expected) in [
            ("/stats/summary", &["stats"][..]),
            ("/metrics", &["metrics"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/metricsx", &["proxy"]),
            ("/logs/", &["log"]),
            ("/pods", &["pods", "proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/healthz/ping", &["healthz", "proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/flagz", &["configz"]),
            ("/containerLogs/shop/web/app", &["proxy"]),
            ("/exec/shop/web/app", &["proxy"]),
            ("/run/stats", &["proxy"]),
        ] {
            assert_eq!(subresources(path), expected, "{path}");
        }
    }

    #[test]
    fn methods_map_to_verbs() {
        assert_eq!(verb(&Method::GET), "get");
        assert_eq!(verb(&Method::POST), "create");
        assert_eq!(verb(&Method::HEAD), "");
    }
}
