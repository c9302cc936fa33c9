//! Who gets in, and who is told what.

use std::sync::atomic::Ordering;

use anyhow::Result;
use hyper::StatusCode;
use serde_json::json;

use crate::support::{Authority, Served, request, text};

#[tokio::test]
async fn who_shows_nothing_is_unauthorized() -> Result<()> {
    let served = Served::new().await?;
    for headers in [&[][..], &[("authorization", "Bearer bad")], &[("authorization", "Basic good")]] {
        let response = served.send(None, request("GET", "/healthz", headers)?).await?;
        assert_eq!(text(response).await?, (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned()));
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_is_a_user_with_groups() -> Result<()> {
    let served = Served::new().await?;
    assert_eq!(served.get("/healthz").await?, (StatusCode::OK, "ok".to_owned()));
    let reviews = served.api.access_reviews.lock().unwrap().clone();
    assert_eq!(reviews.len(), 1);
    assert_eq!(reviews[0]["user"], "admin");
    assert_eq!(reviews[0]["groups"], json!(["testers", "system:authenticated"]));
    let expected = json!({
        "verb": "get", "version": "v1", "resource": "nodes", "subresource": "healthz", "name": "node-1",
    });
    assert_eq!(reviews[0]["resourceAttributes"], expected);
    Ok(())
}

#[tokio::test]
async fn a_token_is_a_user_who_may_do_some_things() -> Result<()> {
    let served = Served::new().await?;
    let token = [("authorization", "Bearer good")];
    let response = served.send(None, request("GET", "/metrics/resource", &token)?).await?;
    assert_eq!(response.status(), StatusCode::OK);
    let response = served.send(None, request("GET", "/pods", &token)?).await?;
    let refusal = "Forbidden (user=scraper, verb=get, resource=nodes, subresource(s)=[pods proxy])\n";
    assert_eq!(text(response).await?, (StatusCode::FORBIDDEN, refusal.to_owned()));
    Ok(())
}

#[tokio::test]
async fn answers_of_the_api_server_are_remembered() -> Result<()> {
    let served = Served::new().await?;
    let token = [("authorization", "Bearer good")];
    for _ in 0..3 {
        let response = served.send(None, request("GET", "/metrics", &token)?).await?;
        assert_eq!(response.status(), StatusCode::OK);
        // Known answers do not need the API server.
        served.api.is_down.store(true, Ordering::SeqCst);
    }
    assert_eq!(served.api.token_reviews.load(Ordering::SeqCst), 1);
    assert_eq!(served.api.access_reviews.lock().unwrap().len(), 1);
    Ok(())
}

#[tokio::test]
async fn without_an_api_server_nobody_new_gets_in() -> Result<()> {
    let served = Served::new().await?;
    served.api.is_down.store(true, Ordering::SeqCst);
    let response = served.send(None, request("GET", "/metrics", &[("authorization", "Bearer good")])?).await?;
    assert_eq!(text(response).await?, (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned()));
    let (status, message) = served.get("/metrics").await?;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(message, "Authorization error (user=admin, verb=get, resource=nodes, subresource=metrics)");
    Ok(())
}

#[tokio::test]
async fn a_certificate_of_another_authority_ends_the_handshake() -> Result<()> {
    let served = Served::new().await?;
    let stranger = Authority::new()?.client("admin")?;
    let answered = served.send(Some(stranger), request("GET", "/healthz", &[])?).await;
    assert!(answered.is_err(), "{answered:?}");
    assert!(served.api.access_reviews.lock().unwrap().is_empty());
    Ok(())
}

#[tokio::test]
async fn new_connections_use_a_renewed_certificate() -> Result<()> {
    let served = Served::new().await?;
    let renewed = Authority::new()?;
    served.handle.set_tls(renewed.server()?);
    assert!(served.tls(&served.authority, None).await.is_err());
    assert!(served.tls(&renewed, None).await.is_ok());
    Ok(())
}
