//! A backend whose programs are a few lines each, and an API server that answers reviews.

#![expect(clippy::unwrap_used, reason = "a test that fails here is one that is wrong")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::client::Body;
use monopod_kubelet_http::{
    BackendError, BackendErrorKind, Exec, HealthCheck, LogOptions, LogPieces, NodeStats, PodBackend, PortStream,
    Process, ProcessInput, ProcessOutput, Target,
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, watch};

/// The Pod of every node of these tests: `shop/web` with a container `app`.
fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": { "namespace": "shop", "name": "web", "uid": "uid-1" },
        "spec": { "containers": [{ "name": "app" }], "initContainers": [{ "name": "setup" }] },
        "status": { "phase": "Running" },
    }))
    .unwrap()
}

#[derive(Debug)]
pub(crate) struct FakeBackend {
    pub(crate) logs_asked: Mutex<Vec<(Target, LogOptions)>>,
    pub(crate) log: Mutex<Option<LogPieces>>,
    pub(crate) problem: Mutex<Option<String>>,
    /// Programs that run, and connections that are open.
    pub(crate) running: watch::Sender<usize>,
}

impl Default for FakeBackend {
    fn default() -> Self {
        Self {
            logs_asked: Mutex::default(),
            log: Mutex::default(),
            problem: Mutex::default(),
            running: watch::Sender::new(0),
        }
    }
}

/// Counts one for as long as it lives.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(sender: &watch::Sender<usize>) -> Self {
        sender.send_modify(|count| *count += 1);
        Self(sender.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

type Output = mpsc::Sender<Result<ProcessOutput, BackendError>>;

/// `cat`, `sizes`, `flood`, `fail`, `exit N`.
async fn run(args: Vec<String>, mut input: mpsc::Receiver<ProcessInput>, output: Output) {
    let say = |data: Bytes| output.send(Ok(ProcessOutput::Stdout(data)));
    let mut code = 0;
    match args.first().map(String::as_str) {
        Some("cat") => loop {
            let event = tokio::select! {
                event = input.recv() => event,
                () = output.closed() => return,
            };
            match event {
                Some(ProcessInput::Stdin(data)) => {
                    let _ = say(data).await;
                }
                Some(ProcessInput::Resize(_)) => {}
                Some(ProcessInput::StdinEnd) => break,
                None => return,
            }
        },
        Some("sizes") => {
            if let Some(ProcessInput::Resize(size)) = input.recv().await {
                let _ = say(format!("{}x{}", size.width, size.height).into()).await;
            }
        }
        Some("flood") => {
            for _ in 0..256 {
                let _ = say(Bytes::from_static(&[b'x'; 16 << 10])).await;
            }
        }
        Some("fail") => {
            let error = BackendError::new(BackendErrorKind::Failed, "no such program");
            let _ = output.send(Err(error)).await;
            return;
        }
        Some("exit") => {
            code = args[1].parse().unwrap();
            let _ = say("out".into()).await;
            let _ = output.send(Ok(ProcessOutput::Stderr("err".into()))).await;
        }
        _ => unreachable!("no such program of the fake"),
    }
    let _ = output.send(Ok(ProcessOutput::Exited { code })).await;
}

impl FakeBackend {
    fn start(&self, args: Vec<String>) -> Process {
        let (to, input) = mpsc::channel(1);
        let (output, from) = mpsc::channel(1);
        let counted = Counted::new(&self.running);
        tokio::spawn(async move {
            run(args, input, output).await;
            drop(counted);
        });
        Process { input: to, output: from }
    }
}

#[async_trait]
impl PodBackend for FakeBackend {
    fn pods(&self) -> Vec<Arc<Pod>> {
        vec![Arc::new(pod())]
    }

    async fn logs(&self, target: &Target, options: LogOptions) -> Result<LogPieces, BackendError> {
        self.logs_asked.lock().unwrap().push((target.clone(), options));
        let waiting = "container \"app\" in pod \"web\" is waiting to start: ContainerCreating";
        self.log.lock().unwrap().take().ok_or_else(|| BackendError::new(BackendErrorKind::NotReady, waiting))
    }

    async fn check_running(&self, target: &Target) -> Result<(), BackendError> {
        match target.container.as_str() {
            "app" => Ok(()),
            other => Err(BackendError::new(BackendErrorKind::NotReady, format!("container not found ({other:?})"))),
        }
    }

    async fn exec(&self, _: &Target, exec: Exec) -> Result<Process, BackendError> {
        Ok(self.start(exec.args))
    }

    async fn attach(&self, _: &Target, _: bool) -> Result<Process, BackendError> {
        Ok(self.start(vec!["exit".to_owned(), "3".to_owned()]))
    }

    /// On port 7 is an echo, on port 9 somebody who says goodbye at the end.
    async fn dial(&self, _: &str, _: &str, port: u16) -> Result<Box<dyn PortStream>, BackendError> {
        let (near, far) = tokio::io::duplex(1024);
        let counted = Counted::new(&self.running);
        match port {
            7 => tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(far);
                let _ = tokio::io::copy(&mut read, &mut write).await;
                drop(counted);
            }),
            9 => tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(far);
                let mut all = Vec::new();
                let _ = read.read_to_end(&mut all).await;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut write, &[&all[..], b" bye"].concat()).await;
                drop(counted);
            }),
            _ => return Err(BackendError::new(BackendErrorKind::NotReady, "connection refused")),
        };
        Ok(Box::new(near))
    }

    async fn stats(&self) -> Result<NodeStats, BackendError> {
        Ok(NodeStats { cores: 2, ..NodeStats::default() })
    }

    async fn metrics(&self) -> String {
        "kubelet_running_pods 1\n".to_owned()
    }

    async fn probe_metrics(&self) -> String {
        "prober_probe_total 1\n".to_owned()
    }

    async fn health(&self) -> Vec<HealthCheck> {
        vec![HealthCheck { name: "syncloop", problem: self.problem.lock().unwrap().clone() }]
    }

    fn configuration(&self) -> Value {
        json!({ "maxPods": 1 })
    }
}

/// Knows the token `good`, and allows `admin` everything, `scraper` the metrics.
#[derive(Debug, Default)]
pub(crate) struct FakeApi {
    pub(crate) token_reviews: AtomicUsize,
    pub(crate) access_reviews: Mutex<Vec<Value>>,
    pub(crate) is_down: std::sync::atomic::AtomicBool,
}

impl FakeApi {
    pub(crate) fn client(self: &Arc<Self>) -> kube::Client {
        let api = Arc::clone(self);
        let service = tower::service_fn(move |request: hyper::Request<Body>| {
            let api = Arc::clone(&api);
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect_bytes().await?;
                let mut review: Value = serde_json::from_slice(&body)?;
                if api.is_down.load(Ordering::SeqCst) {
                    return Err("connection refused".into());
                }
                review["status"] = api.answer(&path, &review["spec"]);
                let body = Body::from(serde_json::to_vec(&review)?);
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(hyper::Response::new(body))
            }
        });
        kube::Client::new(service, "default")
    }

    fn answer(&self, path: &str, spec: &Value) -> Value {
        match path {
            "/apis/authentication.k8s.io/v1/tokenreviews" => {
                self.token_reviews.fetch_add(1, Ordering::SeqCst);
                match spec["token"].as_str() {
                    Some("good") => {
                        json!({ "authenticated": true, "user": { "username": "scraper", "groups": ["g"] } })
                    }
                    _ => json!({ "authenticated": false }),
                }
            }
            "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
                self.access_reviews.lock().unwrap().push(spec.clone());
                let subresource = spec["resourceAttributes"]["subresource"].as_str();
                let is_allowed = match spec["user"].as_str() {
                    Some("admin") => true,
                    Some("scraper") => subresource == Some("metrics"),
                    _ => false,
                };
                json!({ "allowed": is_allowed })
            }
            other => panic!("a request to {other}"),
        }
    }
}
