//! A Pod with everything around it, from JSON.

use k8s_openapi::serde::de::DeserializeOwned;
use monopod_agent_proto::v1::{CreateContainerRequest, PutVolumeRequest};
use monopod_types::{GiB, MiB, MilliCpu};
use serde_json::{Value, json};

use super::super::{
    ContainerInstance, EnvironmentFiles, ImageConfig, MachineShape, PlanError, PlanSettings, PodContext, RuntimeFacts,
    Sources, TokenRequest, VolumeErrors, container_request, volumes,
};

/// A world with one Pod: `web` in namespace `shop`, in a microVM of 1 vCPU, 2 GiB and 20 GiB.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) pod: Value,
    pub(super) objects: Vec<Value>,
    pub(super) facts: RuntimeFacts,
    pub(super) settings: PlanSettings,
    pub(super) image: ImageConfig,
    pub(super) environment_files: EnvironmentFiles,
    pub(super) token: Option<(TokenRequest, &'static str)>,
}

pub(super) fn world(spec: &Value) -> World {
    let metadata = json!({
        "name": "web", "namespace": "shop", "uid": "0001",
        "labels": {"app": "web", "tier": "front"}, "annotations": {"note": "a \"b\"\nc"},
    });
    World {
        pod: json!({"metadata": metadata, "spec": spec}),
        objects: Vec::new(),
        facts: RuntimeFacts {
            pod_ips: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            host_ips: vec!["10.0.0.7".parse().unwrap()],
            node_name: "node".to_owned(),
            machine: MachineShape { cpu: MilliCpu(1000), memory: MiB(2048), scratch: GiB(20) },
        },
        settings: PlanSettings::default(),
        image: ImageConfig { cmd: vec!["serve".to_owned()], ..ImageConfig::default() },
        environment_files: EnvironmentFiles::new(),
        token: None,
    }
}

/// A world whose Pod has one container `c` with these fields.
pub(super) fn container(fields: &Value) -> World {
    world(&json!({"containers": [with_name(fields)]}))
}

/// The same, with fields of the Pod's spec beside it.
pub(super) fn container_in(fields: &Value, spec: &Value) -> World {
    let mut spec = spec.clone();
    spec["containers"] = json!([with_name(fields)]);
    world(&spec)
}

fn with_name(fields: &Value) -> Value {
    let mut container = fields.clone();
    container["name"] = json!("c");
    container
}

impl World {
    pub(super) fn with(mut self, object: Value) -> Self {
        self.objects.push(object);
        self
    }

    pub(super) fn with_config_map(self, name: &str, data: &Value) -> Self {
        self.with(json!({"kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, "data": data}))
    }

    /// With a Secret of plain texts.
    pub(super) fn with_secret(self, name: &str, data: &Value) -> Self {
        self.with(json!({"kind": "Secret", "metadata": {"name": name, "namespace": "shop"}, "stringData": data}))
    }

    pub(super) fn ask<T>(&self, question: impl FnOnce(&PodContext<'_>) -> T) -> T {
        let config_maps = self.all("ConfigMap");
        let secrets = self.all("Secret");
        let claims = self.all("PersistentVolumeClaim");
        let persistent = self.all("PersistentVolume");
        let services = self.all("Service");
        let sources = Sources::default()
            .with_config_maps(&config_maps)
            .with_secrets(&secrets)
            .with_claims(&claims)
            .with_volumes(&persistent)
            .with_services(&services)
            .with_tokens(self.token.clone());
        let pod = read(&self.pod);
        question(&PodContext { pod: &pod, sources: &sources, facts: &self.facts, settings: &self.settings })
    }

    fn all<T: DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        self.objects.iter().filter(|object| object["kind"] == kind).map(read).collect()
    }

    /// What is asked for container `c`.
    pub(super) fn request(&self) -> Result<CreateContainerRequest, PlanError> {
        self.request_of("c")
    }

    pub(super) fn request_of(&self, name: &str) -> Result<CreateContainerRequest, PlanError> {
        let instance = ContainerInstance {
            container: name,
            id: "c-0",
            image: &self.image,
            image_serial: "serial",
            target: None,
            environment_files: &self.environment_files,
        };
        self.ask(|context| container_request(context, &instance))
    }

    /// `NAME=value` of container `c`, in order.
    pub(super) fn environment(&self) -> Result<Vec<String>, String> {
        let request = self.request().map_err(|error| error.to_string())?;
        Ok(request.environment.into_iter().map(|variable| format!("{}={}", variable.name, variable.value)).collect())
    }

    pub(super) fn volumes(&self) -> Result<Vec<PutVolumeRequest>, VolumeErrors> {
        self.ask(volumes)
    }
}

pub(super) fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("the test writes a valid object")
}
