//! Tells the API server of the webhooks: which objects it asks about, where, and whom it believes.
//!
//! The one for Pods has the name of the reference's, whose digits make it the first. An outage lets Pods and DaemonSets
//! pass (`Ignore`), so that no cluster stands still for us; our own objects wait (`Fail`), since nothing but us needs them.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use monopod_api::names;
use serde_json::{Value, json};

/// Name of the mutating configuration and its first webhook: the reference's.
const MUTATING: &str = "0500-amazon-eks-fargate-mutation.amazonaws.com";
/// Name of the validating configuration.
const VALIDATING: &str = "monopod.dev";
/// Who writes the configurations.
const MANAGER: &str = "monopod-controller";
/// Seconds that the API server waits for an answer; the reference's.
const TIMEOUT: u8 = 5;

/// Where the API server finds the webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookAddress {
    /// Behind the Service `monopod-webhook` in our namespace.
    Service,
    /// At a URL such as `https://10.0.0.1:9443`.
    Url(String),
}

/// Name of the Service.
const SERVICE: &str = "monopod-webhook";

impl WebhookAddress {
    /// Names and addresses that the server's certificate must have.
    pub(crate) fn hosts(&self) -> Vec<String> {
        match self {
            Self::Service => vec![format!("{SERVICE}.{}.svc", names::SYSTEM_NAMESPACE)],
            Self::Url(url) => {
                let host = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
                host.into_iter().map(|host| host.trim_matches(['[', ']']).to_owned()).collect()
            }
        }
    }

    fn client(&self, path: &str, authorities: &str) -> WebhookClientConfig {
        let ca_bundle = Some(ByteString(authorities.as_bytes().to_vec()));
        match self {
            Self::Service => WebhookClientConfig {
                ca_bundle,
                service: Some(k8s_openapi::api::admissionregistration::v1::ServiceReference {
                    name: SERVICE.to_owned(),
                    namespace: names::SYSTEM_NAMESPACE.to_owned(),
                    path: Some(path.to_owned()),
                    port: Some(443),
                }),
                url: None,
            },
            Self::Url(url) => WebhookClientConfig {
                ca_bundle,
                service: None,
                url: Some(format!("{}{path}", url.trim_end_matches('/'))),
            },
        }
    }
}

/// Makes the configurations say this; nothing is written when they do.
pub(crate) async fn register(client: &Client, address: &WebhookAddress, authorities: &str) -> Result<(), kube::Error> {
    let params = PatchParams::apply(MANAGER).force();
    let mutating = Api::<MutatingWebhookConfiguration>::all(client.clone());
    mutating.patch(MUTATING, &params, &Patch::Apply(mutating_configuration(address, authorities))).await?;
    let validating = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    validating.patch(VALIDATING, &params, &Patch::Apply(validating_configuration(address, authorities))).await?;
    Ok(())
}

fn mutating_configuration(address: &WebhookAddress, authorities: &str) -> Value {
    let webhook = |name: &str, path: &str, rule: Value| {
        json!({
            "name": name,
            "clientConfig": address.client(path, authorities),
            "rules": [rule],
            "failurePolicy": "Ignore",
            "matchPolicy": "Equivalent",
            "reinvocationPolicy": "Never",
            "sideEffects": "None",
            "timeoutSeconds": TIMEOUT,
            "admissionReviewVersions": ["v1"],
            // What makes us run must not need us.
            "namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [names::SYSTEM_NAMESPACE]},
            ]},
        })
    };
    let pods = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"], "scope": "Namespaced"});
    let sets = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["daemonsets"], "operations": ["CREATE", "UPDATE"], "scope": "Namespaced"});
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": MUTATING},
        "webhooks": [
            webhook(MUTATING, "/mutate/pods", pods),
            webhook("daemonsets.monopod.dev", "/mutate/daemonsets", sets),
        ],
    })
}

fn validating_configuration(address: &WebhookAddress, authorities: &str) -> Value {
    let webhooks = ["fargateprofiles", "hosts", "subnets"].map(|resource| {
        json!({
            "name": format!("{resource}.monopod.dev"),
            "clientConfig": address.client(&format!("/validate/{resource}"), authorities),
            "rules": [{
                "apiGroups": ["monopod.dev"], "apiVersions": ["v1"], "resources": [resource],
                "operations": ["CREATE", "UPDATE"], "scope": "Cluster",
            }],
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "sideEffects": "None",
            "timeoutSeconds": TIMEOUT,
            "admissionReviewVersions": ["v1"],
        })
    });
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": VALIDATING},
        "webhooks": webhooks,
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};

    use super::{WebhookAddress, mutating_configuration, validating_configuration};

    #[test]
    fn the_configurations_are_what_the_api_server_takes() {
        for address in [WebhookAddress::Service, WebhookAddress::Url("https://[fd00::1]:9443/".to_owned())] {
            let mutating: MutatingWebhookConfiguration =
                serde_json::from_value(mutating_configuration(&address, "pem")).unwrap();
            let policies = mutating.webhooks.iter().flatten().map(|one| one.failure_policy.clone().unwrap());
            assert_eq!(policies.collect::<Vec<_>>(), ["Ignore", "Ignore"]);
            let validating: ValidatingWebhookConfiguration =
                serde_json::from_value(validating_configuration(&address, "pem")).unwrap();
            let policies = validating.webhooks.iter().flatten().map(|one| one.failure_policy.clone().unwrap());
            assert_eq!(policies.collect::<Vec<_>>(), ["Fail", "Fail", "Fail"]);
        }
    }

    #[test]
    fn the_certificate_is_for_where_the_server_is() {
        assert_eq!(WebhookAddress::Service.hosts(), ["monopod-webhook.monopod-system.svc"]);
        assert_eq!(WebhookAddress::Url("https://10.0.0.1:9443".to_owned()).hosts(), ["10.0.0.1"]);
        assert_eq!(WebhookAddress::Url("https://[fd00::1]:9443".to_owned()).hosts(), ["fd00::1"]);
    }
}
