//! Clients of a cluster's API server: kube's, which connects from inside the cluster's network wherever it is used, and
//! kubectl.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::service_fn;

use super::inside::Inside;

/// A client of the server and user that a kubeconfig names.
pub(crate) async fn client(inside: &Inside, kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig);
    let read = read.with_context(|| format!("failed to read {}", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    let inside = inside.clone();
    let connector = service_fn(move |uri: http::Uri| {
        let inside = inside.clone();
        async move {
            let address: SocketAddr = uri.authority().context("an address has a host")?.as_str().parse()?;
            anyhow::Ok(TokioIo::new(inside.connect(address).await?))
        }
    });
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new()).build(connector);
    let namespace = config.default_namespace.clone();
    Ok(ClientBuilder::new(http, namespace).with_layer(&config.base_uri_layer()).build())
}

/// Feeds a started program, waits for its end; what it said.
pub(crate) async fn finish(mut child: Child, input: &str) -> Result<Output> {
    let input = input.to_owned();
    let done = tokio::task::spawn_blocking(move || {
        let stdin = child.stdin.take();
        let feeder = std::thread::spawn(move || {
            // Who does not want it all closes the pipe.
            stdin.map(|mut stdin| stdin.write_all(input.as_bytes()))
        });
        let output = child.wait_with_output();
        let _ = feeder.join();
        output
    });
    done.await.context("a thread panicked")?.context("failed to wait for a program")
}

/// A command whose output is read and whose input is given.
pub(crate) fn piped(mut command: Command) -> Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Standard output of a program that succeeded.
pub(crate) fn checked(what: &str, output: &Output) -> Result<String> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{what} ended with {}: {}{}", output.status, err.trim_end(), out.trim_end());
    Ok(out.into_owned())
}
