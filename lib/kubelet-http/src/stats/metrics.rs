//! `/metrics/resource` and `/metrics/cadvisor`, as Prometheus text with the names and labels that dashboards and
//! metrics-server look for.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{ContainerStats, NodeStats, PodStats};

/// Metrics as text, those of one name together.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str, samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for Sample { labels, value, time } in samples {
            let _ = match (labels.is_empty(), time) {
                (true, None) => writeln!(self.0, "{name} {value}"),
                (true, Some(time)) => writeln!(self.0, "{name} {value} {}", time.as_millisecond()),
                (false, None) => writeln!(self.0, "{name}{{{labels}}} {value}"),
                (false, Some(time)) => writeln!(self.0, "{name}{{{labels}}} {value} {}", time.as_millisecond()),
            };
        }
    }
}

#[derive(Debug)]
struct Sample {
    labels: String,
    value: String,
    time: Option<Timestamp>,
}

fn sample(labels: &[(&str, &str)], value: impl Into<String>, time: Timestamp) -> Sample {
    let shown: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    Sample { labels: shown.join(","), value: value.into(), time: Some(time) }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Seconds without rounding.
fn seconds(nanoseconds: u64) -> String {
    format!("{}.{:09}", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)
}

fn since_epoch(time: Timestamp) -> String {
    seconds(u64::try_from(time.as_nanosecond()).unwrap_or(0))
}

/// `/metrics/resource`.
pub(crate) fn resource_metrics(node: &NodeStats) -> String {
    let mut page = Page::default();
    let pods = |value: &dyn Fn(&PodStats) -> String| -> Vec<Sample> {
        let one =
            |pod: &PodStats| sample(&[("namespace", &pod.namespace), ("pod", &pod.name)], value(pod), pod.usage.time);
        node.pods.iter().map(one).collect()
    };
    let containers = |value: &dyn Fn(&ContainerStats) -> String| -> Vec<Sample> {
        let of_pod = |pod: &PodStats| -> Vec<Sample> {
            let one = |container: &ContainerStats| {
                let labels = [("container", &*container.name), ("namespace", &*pod.namespace), ("pod", &*pod.name)];
                sample(&labels, value(container), container.usage.time)
            };
            pod.containers.iter().map(one).collect()
        };
        node.pods.iter().flat_map(of_pod).collect()
    };
    page.family(
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        containers(&|one| seconds(one.usage.cpu_nanoseconds)),
    );
    page.family(
        "container_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the container in bytes",
        containers(&|one| one.usage.memory_working_set.to_string()),
    );
    page.family(
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
        containers(&|one| since_epoch(one.started)),
    );
    page.family(
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        vec![sample(&[], seconds(node.usage.cpu_nanoseconds), node.usage.time)],
    );
    page.family(
        "node_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the node in bytes",
        vec![sample(&[], node.usage.memory_working_set.to_string(), node.usage.time)],
    );
    page.family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        pods(&|pod| seconds(pod.usage.cpu_nanoseconds)),
    );
    page.family(
        "pod_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the pod in bytes",
        pods(&|pod| pod.usage.memory_working_set.to_string()),
    );
    let fine = Sample { labels: String::new(), value: "0".to_owned(), time: None };
    page.family(
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
        vec![fine],
    );
    page.0
}

/// One line of cAdvisor's: a container, or a Pod as a whole, whose container is then nameless.
#[derive(Debug)]
struct Row<'a> {
    pod: &'a PodStats,
    container: Option<&'a ContainerStats>,
}

impl Row<'_> {
    fn sample(&self, more: &[(&str, &str)], value: impl Into<String>) -> Sample {
        let name = self.container.map(|one| one.name.as_str()).unwrap_or_default();
        let image = self.container.map(|one| one.image.as_str()).unwrap_or_default();
        let id = match self.container {
            Some(one) => format!("/kubepods/pod{}/{}", self.pod.uid, one.name),
            None => format!("/kubepods/pod{}", self.pod.uid),
        };
        let mut labels = vec![("container", name), ("id", &*id), ("image", image)];
        labels.extend([("name", name), ("namespace", &*self.pod.namespace), ("pod", &*self.pod.name)]);
        labels.extend(more);
        labels.sort_unstable();
        sample(&labels, value, self.usage().time)
    }

    fn usage(&self) -> &super::Usage {
        self.container.map_or(&self.pod.usage, |one| &one.usage)
    }
}

/// What is told of a row.
type Value<'a> = &'a dyn Fn(&Row<'_>) -> String;

/// `/metrics/cadvisor`.
pub(crate) fn cadvisor_metrics(node: &NodeStats) -> String {
    let mut page = Page::default();
    let rows = || {
        let of_pod = |pod| -> Vec<Row<'_>> {
            let containers = PodStats::containers(pod).map(|one| Row { pod, container: Some(one) });
            std::iter::once(Row { pod, container: None }).chain(containers).collect()
        };
        node.pods.iter().flat_map(of_pod)
    };
    let all = |value: &dyn Fn(&Row<'_>) -> String| -> Vec<Sample> {
        rows().map(|row| row.sample(&[], value(&row))).collect()
    };
    let cpu = rows().map(|row| row.sample(&[("cpu", "total")], seconds(row.usage().cpu_nanoseconds))).collect();
    page.family("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", cpu);
    let written = |row: &Row<'_>| row.container.map_or(row.pod.disk.used, |one| one.root_used).to_string();
    let disk = rows().map(|row| row.sample(&[("device", "/dev/scratch")], written(&row))).collect();
    page.family(
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes consumed by the container on this filesystem.",
        disk,
    );
    let gauges: [(&str, &str, Value<'_>); 5] = [
        ("container_memory_rss", "Size of RSS in bytes.", &|row| row.usage().memory_rss.to_string()),
        (
            "container_memory_usage_bytes",
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
            &|row| row.usage().memory_usage.to_string(),
        ),
        ("container_memory_working_set_bytes", "Current working set in bytes.", &|row| {
            row.usage().memory_working_set.to_string()
        }),
        ("container_processes", "Number of processes running inside the container.", &|row| {
            row.usage().processes.to_string()
        }),
        ("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", &|row| {
            since_epoch(row.container.map_or(row.pod.started, |one| one.started))
        }),
    ];
    for (name, help, value) in gauges {
        page.family(name, "gauge", help, all(value));
    }
    let network = |value: &dyn Fn(&PodStats) -> u64| -> Vec<Sample> {
        let one = |pod| {
            let interface = [("interface", PodStats::interface(pod))];
            Row { pod, container: None }.sample(&interface, value(pod).to_string())
        };
        node.pods.iter().map(one).collect()
    };
    let received = network(&|pod| pod.network.received_bytes);
    page.family("container_network_receive_bytes_total", "counter", "Cumulative count of bytes received", received);
    let sent = network(&|pod| pod.network.sent_bytes);
    page.family("container_network_transmit_bytes_total", "counter", "Cumulative count of bytes transmitted", sent);
    let machine = |value: u64| vec![Sample { labels: String::new(), value: value.to_string(), time: None }];
    page.family("machine_cpu_cores", "gauge", "Number of logical CPU cores.", machine(node.cores));
    page.family("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.", machine(node.memory));
    page.0
}

impl PodStats {
    fn containers(&self) -> impl Iterator<Item = &ContainerStats> {
        self.containers.iter()
    }

    fn interface(&self) -> &str {
        &self.network.interface
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::{ContainerStats, NetworkUsage, NodeStats, PodStats, Usage, summary};
    use super::{cadvisor_metrics, resource_metrics};

    fn node() -> NodeStats {
        let time = Timestamp::from_millisecond(1_395_066_363_000).unwrap();
        let usage = Usage { time, cpu_nanoseconds: 1_250_000_000, memory_working_set: 4096, ..Usage::default() };
        let image = "registry/a\"b".to_owned();
        let started = Timestamp::from_second(100).unwrap();
        let container =
            ContainerStats { name: "app".to_owned(), image, started, usage: usage.clone(), ..Default::default() };
        let pod = PodStats {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            uid: "7".to_owned(),
            usage: usage.clone(),
            network: NetworkUsage { interface: "eth0".to_owned(), received_bytes: 9, sent_bytes: 8 },
            containers: vec![container],
            ..PodStats::default()
        };
        NodeStats { usage, cores: 2, memory: 1 << 30, pods: vec![pod], ..NodeStats::default() }
    }

    #[test]
    fn metrics_server_finds_what_it_needs() {
        let page = resource_metrics(&node());
        for line in [
            r#"container_cpu_usage_seconds_total{container="app",namespace="shop",pod="web"} 1.250000000 1395066363000"#,
            r#"container_memory_working_set_bytes{container="app",namespace="shop",pod="web"} 4096 1395066363000"#,
            r#"container_start_time_seconds{container="app",namespace="shop",pod="web"} 100.000000000 1395066363000"#,
            "node_cpu_usage_seconds_total 1.250000000 1395066363000",
            r#"pod_memory_working_set_bytes{namespace="shop",pod="web"} 4096 1395066363000"#,
            "resource_scrape_error 0",
        ] {
            assert!(page.lines().any(|one| one == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn dashboards_find_what_they_need() {
        let page = cadvisor_metrics(&node());
        for line in [
            concat!(
                r#"container_cpu_usage_seconds_total{container="app",cpu="total",id="/kubepods/pod7/app","#,
                r#"image="registry/a\"b",name="app",namespace="shop",pod="web"} 1.250000000 1395066363000"#,
            ),
            concat!(
                r#"container_network_receive_bytes_total{container="",id="/kubepods/pod7",image="","#,
                r#"interface="eth0",name="",namespace="shop",pod="web"} 9 1395066363000"#,
            ),
            "machine_cpu_cores 2",
        ] {
            assert!(page.lines().any(|one| one == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn the_summary_has_the_names_of_the_kubelet() {
        let shown = serde_json::to_value(summary("node-1", &node())).unwrap();
        assert_eq!(shown["node"]["nodeName"], "node-1");
        assert_eq!(shown["node"]["cpu"]["usageCoreNanoSeconds"], 1_250_000_000);
        assert_eq!(shown["pods"][0]["podRef"]["name"], "web");
        assert_eq!(shown["pods"][0]["containers"][0]["memory"]["workingSetBytes"], 4096);
        assert_eq!(shown["pods"][0]["network"]["rxBytes"], 9);
        assert_eq!(shown["pods"][0]["containers"][0]["startTime"], "1970-01-01T00:01:40Z");
    }
}
