//! Each question meets a server that answers one way, on a loopback port of its own.

use std::time::Duration;

use monopod_podplan::life::{HttpRequest, ProbeOutcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Prober, go_duration};

const PATIENCE: Duration = Duration::from_secs(20);

/// Answers every connection with the text; gives what each sent.
async fn server(answer: &'static str) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, asked) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = connection.read(&mut request).await.unwrap_or(0);
            request.truncate(length);
            let _ = tell.send(String::from_utf8_lossy(&request).into_owned());
            if answer.is_empty() {
                // Silence, for as long as the other side listens.
                let _ = connection.read(&mut [0]).await;
            } else {
                let _ = connection.write_all(answer.as_bytes()).await;
            }
        }
    });
    (port, asked)
}

fn request(port: u16) -> HttpRequest {
    HttpRequest {
        is_https: false,
        host: "127.0.0.1".to_owned(),
        port,
        path: "/health?full".to_owned(),
        headers: vec![
            ("User-Agent".to_owned(), "kube-probe/1.37".to_owned()),
            ("Host".to_owned(), "shop.example".to_owned()),
            ("X-Twice".to_owned(), "1".to_owned()),
            ("X-Twice".to_owned(), "2".to_owned()),
        ],
    }
}

async fn ask(answer: &'static str) -> ProbeOutcome {
    let (port, _asked) = server(answer).await;
    Prober::new().unwrap().http(&request(port), PATIENCE).await
}

#[tokio::test]
async fn an_answer_below_400_is_well() {
    for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"] {
        assert_eq!(ask(answer).await, ProbeOutcome::Success, "{answer}");
    }
}

#[tokio::test]
async fn an_error_status_is_named() {
    let failure = ProbeOutcome::Failure("HTTP probe failed with statuscode: 503".to_owned());
    assert_eq!(ask("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await, failure);
}

#[tokio::test]
async fn a_redirect_to_another_host_is_a_warning_and_is_not_followed() {
    let answer = "HTTP/1.1 302 Found\r\nlocation: http://localhost:1/\r\ncontent-length: 4\r\n\r\naway";
    let warning = ProbeOutcome::Warning("Probe terminated redirects, Response body: away".to_owned());
    assert_eq!(ask(answer).await, warning);
}

#[tokio::test]
async fn a_redirect_on_the_same_host_goes_round_ten_times_at_most() {
    let ProbeOutcome::Failure(message) =
        ask("HTTP/1.1 302 Found\r\nlocation: /again\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await
    else {
        panic!("a circle of redirects is a failure");
    };
    assert!(message.ends_with("stopped after 10 redirects"), "{message}");
}

#[tokio::test]
async fn headers_and_path_arrive_as_they_are() {
    let (port, mut asked) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    Prober::new().unwrap().http(&request(port), PATIENCE).await;
    let asked = asked.recv().await.unwrap().to_lowercase();
    assert!(asked.starts_with("get /health?full http/1.1\r\n"), "{asked}");
    for header in ["user-agent: kube-probe/1.37", "host: shop.example", "x-twice: 1", "x-twice: 2", "accept: */*"] {
        assert!(asked.contains(&format!("\r\n{header}\r\n")), "{header} in {asked}");
    }
}

/// A port that nobody listens on.
async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_closed_port_is_refused_in_the_kubelets_words() {
    let (prober, port) = (Prober::new().unwrap(), closed_port().await);
    let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    let http = ProbeOutcome::Failure(format!("Get \"http://127.0.0.1:{port}/health?full\": {refused}"));
    assert_eq!(prober.http(&request(port), PATIENCE).await, http);
    assert_eq!(prober.tcp("127.0.0.1", port, PATIENCE).await, ProbeOutcome::Failure(refused));
    let ProbeOutcome::Failure(message) = prober.grpc("127.0.0.1", port, "", Duration::from_secs(1)).await else {
        panic!("a closed port is a failure");
    };
    let expected =
        format!("timeout: failed to connect service \"127.0.0.1:{port}\" within 1s: context deadline exceeded");
    assert_eq!(message, expected);
}

#[tokio::test]
async fn silence_is_a_failure_after_the_time_out() {
    let (port, _asked) = server("").await;
    let ProbeOutcome::Failure(message) = Prober::new().unwrap().http(&request(port), Duration::from_millis(50)).await
    else {
        panic!("silence is a failure");
    };
    assert!(message.contains("context deadline exceeded"), "{message}");
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp() {
    let (port, _asked) = server("x").await;
    assert_eq!(Prober::new().unwrap().tcp("127.0.0.1", port, PATIENCE).await, ProbeOutcome::Success);
}

#[tokio::test]
async fn a_hook_takes_any_answer() {
    let (port, _asked) = server("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(Prober::new().unwrap().http_hook(&request(port), Some(PATIENCE)).await, Ok(()));
}

mod health {
    //! A health service of our own.

    use std::convert::Infallible;
    use std::task::{Context, Poll};

    use tonic::codegen::{BoxFuture, Service, http};
    use tonic::server::{Grpc, NamedService, UnaryService};
    use tonic::{Request, Response, Status};
    use tonic_prost::ProstCodec;

    use super::super::grpc::{HealthCheckRequest, HealthCheckResponse, ServingStatus};

    #[derive(Clone)]
    pub(super) struct Health;

    impl UnaryService<HealthCheckRequest> for Health {
        type Response = HealthCheckResponse;
        type Future = BoxFuture<Response<HealthCheckResponse>, Status>;
        fn call(&mut self, request: Request<HealthCheckRequest>) -> Self::Future {
            let status = match request.get_ref().service.as_str() {
                "well" => Ok(ServingStatus::Serving),
                "ill" => Ok(ServingStatus::NotServing),
                _ => Err(Status::not_found("unknown service")),
            };
            let answer = |status| Response::new(HealthCheckResponse { status: i32::from(status) });
            Box::pin(std::future::ready(status.map(answer)))
        }
    }

    impl NamedService for Health {
        const NAME: &'static str = "grpc.health.v1.Health";
    }

    impl Service<http::Request<tonic::body::Body>> for Health {
        type Response = http::Response<tonic::body::Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Self::Error>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
            let mut grpc = Grpc::new(ProstCodec::<HealthCheckResponse, HealthCheckRequest>::default());
            Box::pin(async move { Ok(grpc.unary(Self, request).await) })
        }
    }
}

#[tokio::test]
async fn grpc_health_answers_decide() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(health::Health).serve_with_incoming(incoming));
    let prober = Prober::new().unwrap();
    let ask = |service: &'static str| {
        let prober = prober.clone();
        async move { prober.grpc("127.0.0.1", port, service, PATIENCE).await }
    };
    assert_eq!(ask("well").await, ProbeOutcome::Success);
    let ill = ProbeOutcome::Failure("service unhealthy (responded with \"NOT_SERVING\")".to_owned());
    assert_eq!(ask("ill").await, ill);
    let unknown = "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service".to_owned();
    assert_eq!(ask("other").await, ProbeOutcome::Failure(unknown));
}

#[test]
fn durations_are_written_as_go_does() {
    let cases = [(0, "0s"), (200, "200ms"), (1000, "1s"), (1500, "1.5s"), (60_000, "1m0s"), (3_723_000, "1h2m3s")];
    for (millis, shown) in cases {
        assert_eq!(go_duration(Duration::from_millis(millis)), shown);
    }
}
