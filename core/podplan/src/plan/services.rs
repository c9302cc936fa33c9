//! Variables that tell a container of Services (Kubernetes documentation, Service, environment variables; kubelet,
//! `envvars.FromServices`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort};

use super::context::PodContext;

/// Name and value of every variable about a Service: those of the Pod's namespace where it wants them, and always the
/// API server's.
pub(super) fn variables(context: &PodContext<'_>) -> Vec<(String, String)> {
    let wants_links = context.spec().enable_service_links != Some(false);
    // A Service `kubernetes` of the namespace gives way to the API server's.
    let mut visible: BTreeMap<&str, (&Service, bool)> = BTreeMap::new();
    for (namespace, name, service) in context.sources.services() {
        let is_api_server = namespace == "default" && name == "kubernetes";
        let is_linked = wants_links && namespace == context.namespace();
        if is_api_server || (is_linked && visible.get(name).is_none_or(|&(_, is_kept)| !is_kept)) {
            visible.insert(name, (service, is_api_server));
        }
    }
    visible.into_iter().flat_map(|(name, (service, _))| of_service(name, service)).collect()
}

fn of_service(name: &str, service: &Service) -> Vec<(String, String)> {
    let spec = service.spec.as_ref();
    let Some(address) = spec.and_then(|spec| spec.cluster_ip.as_deref()).filter(|ip| !ip.is_empty() && *ip != "None")
    else {
        return Vec::new();
    };
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let Some(first) = ports.first() else { return Vec::new() };
    let prefix = variable_name(name);
    let mut variables = vec![
        (format!("{prefix}_SERVICE_HOST"), address.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            variables.push((format!("{prefix}_SERVICE_PORT_{}", variable_name(name)), port.port.to_string()));
        }
    }
    variables.push((format!("{prefix}_PORT"), url(address, first)));
    for port in ports {
        let link = format!("{prefix}_PORT_{}_{}", port.port, protocol(port));
        variables.push((format!("{link}_PROTO"), protocol(port).to_lowercase()));
        variables.push((format!("{link}_PORT"), port.port.to_string()));
        variables.push((format!("{link}_ADDR"), address.to_owned()));
        variables.push((link, url(address, port)));
    }
    variables
}

fn url(address: &str, port: &ServicePort) -> String {
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("{}://{address}:{}", protocol(port).to_lowercase(), port.port)
}

fn protocol(port: &ServicePort) -> String {
    port.protocol.as_deref().filter(|protocol| !protocol.is_empty()).unwrap_or("TCP").to_uppercase()
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}
