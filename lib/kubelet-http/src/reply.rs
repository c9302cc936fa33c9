//! Answers that are not streams.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use crate::backend::{BackendError, BackendErrorKind};

/// The content of an answer.
#[derive(Debug)]
pub(crate) struct Body(UnsyncBoxBody<Bytes, std::io::Error>);

/// An answer.
pub(crate) type Answer = Response<Body>;

impl Default for Body {
    fn default() -> Self {
        Self::new(Empty::new().map_err(never))
    }
}

fn never(error: Infallible) -> std::io::Error {
    match error {}
}

impl Body {
    pub(crate) fn new(body: impl hyper::body::Body<Data = Bytes, Error = std::io::Error> + Send + 'static) -> Self {
        Self(body.boxed_unsync())
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.0.size_hint()
    }
}

fn answer(status: StatusCode, kind: &'static str, content: Bytes) -> Answer {
    let mut answer = Response::new(Body::new(Full::new(content).map_err(never)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// Plain text.
pub(crate) fn text(status: StatusCode, content: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", content.into())
}

/// Metrics.
pub(crate) fn metrics(content: String) -> Answer {
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", content.into())
}

/// JSON.
pub(crate) fn json(content: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec(content) {
        Ok(content) => answer(StatusCode::OK, "application/json", content.into()),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// A refusal, in a box because it is large beside what it stands for.
pub(crate) fn refuse(status: StatusCode, message: String) -> Box<Answer> {
    Box::new(text(status, message))
}

/// Only some methods are possible.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// What the backend could not do. `otherwise` is the status for what is there, but not in a state for it.
pub(crate) fn failure(error: &BackendError, otherwise: StatusCode) -> Answer {
    let status = match error.kind {
        BackendErrorKind::NotFound => StatusCode::NOT_FOUND,
        BackendErrorKind::NotReady => otherwise,
        BackendErrorKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    text(status, error.to_string())
}
