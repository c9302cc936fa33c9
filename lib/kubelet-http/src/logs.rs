//! `/containerLogs`: what the API server passes on of `PodLogOptions`, checked as the kubelet does, and the log as it comes.

use bytes::Bytes;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};

use crate::backend::{LogOptions, LogPieces, LogStream, Target};
use crate::query::Query;
use crate::reply::{Answer, Body, refuse};
use crate::routes::has_container;
use crate::server::Node;

/// Answers with the log of `namespace/pod/container`.
pub(crate) async fn serve(node: &Node, names: [&str; 3], query: Query) -> Result<Answer, Box<Answer>> {
    let options = options(&query, Timestamp::now()).map_err(|wrong| {
        let (status, message) = match wrong {
            Wrong::Unreadable => (StatusCode::BAD_REQUEST, r#"{"message": "Unable to decode query."}"#),
            Wrong::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, r#"{"message": "Invalid request."}"#),
        };
        refuse(status, message.to_owned())
    })?;
    let [namespace, pod, container] = names.map(str::to_owned);
    let missing = |message| refuse(StatusCode::NOT_FOUND, message);
    let found = node.backend.pod(&namespace, &pod);
    let found = found.ok_or_else(|| missing(format!("pod {pod:?} does not exist")))?;
    if !has_container(&found, &container) {
        return Err(missing(format!("container {container:?} not found in pod {pod:?}")));
    }
    let target = Target { namespace, pod, container };
    let pieces = node.backend.logs(&target, options).await;
    // Whatever it is, kubectl is to show these words.
    let pieces = pieces.map_err(|error| refuse(StatusCode::BAD_REQUEST, error.to_string()))?;
    let mut answer = Response::new(Body::new(StreamBody::new(frames(pieces))));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(answer)
}

/// The log as it comes. A failure on the way is said in its words at the end, since the status is sent by then.
fn frames(pieces: LogPieces) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, std::io::Error>> {
    stream::unfold(Some(pieces), |pieces| async {
        let mut pieces = pieces?;
        match pieces.recv().await? {
            Ok(data) => Some((Ok(Frame::data(data)), Some(pieces))),
            Err(error) => Some((Ok(Frame::data(error.to_string().into())), None)),
        }
    })
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Unreadable,
    Invalid,
}

fn options(query: &Query, now: Timestamp) -> Result<LogOptions, Wrong> {
    // An older name: `all` is what none means.
    let tail =
        query.first("tail").map_or_else(|| query.first("tailLines"), |tail| Some(tail).filter(|tail| *tail != "all"));
    let tail_lines = number(tail, 0)?;
    let since_seconds = number(query.first("sinceSeconds"), 1)?;
    let since_time = query.first("sinceTime").map(|text| text.parse::<Timestamp>().map_err(|_| Wrong::Unreadable));
    let since = match (since_seconds, since_time.transpose()?) {
        (Some(_), Some(_)) => return Err(Wrong::Invalid),
        (Some(seconds), None) => {
            let ago = SignedDuration::from_secs(i64::try_from(seconds).map_err(|_| Wrong::Invalid)?);
            Some(now.checked_sub(ago).unwrap_or(Timestamp::MIN))
        }
        (None, time) => time,
    };
    let stream = match query.first("stream") {
        None | Some("All") => LogStream::All,
        Some("Stdout") => LogStream::Stdout,
        Some("Stderr") => LogStream::Stderr,
        Some(_) => return Err(Wrong::Invalid),
    };
    if stream != LogStream::All && tail_lines.is_some() {
        return Err(Wrong::Invalid);
    }
    Ok(LogOptions {
        follow: query.is_on("follow"),
        previous: query.is_on("previous"),
        timestamps: query.is_on("timestamps"),
        since,
        tail_lines,
        limit_bytes: number(query.first("limitBytes"), 1)?,
        stream,
    })
}

/// A number that is at least so large.
fn number(text: Option<&str>, least: i64) -> Result<Option<u64>, Wrong> {
    let Some(text) = text else { return Ok(None) };
    let number: i64 = text.parse().map_err(|_| Wrong::Unreadable)?;
    if number < least {
        return Err(Wrong::Invalid);
    }
    u64::try_from(number).map(Some).map_err(|_| Wrong::Invalid)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{LogOptions, LogStream, Wrong, options};
    use crate::query::Query;

    fn read(query: &str) -> Result<LogOptions, Wrong> {
        options(&Query::parse(Some(query)), Timestamp::from_second(1000).unwrap())
    }

    #[test]
    fn options_are_read_as_the_api_server_writes_them() {
        assert_eq!(read(""), Ok(LogOptions::default()));
        let expected = LogOptions {
            follow: true,
            previous: false,
            timestamps: true,
            since: Some(Timestamp::from_second(940).unwrap()),
            tail_lines: Some(0),
            limit_bytes: Some(5),
            stream: LogStream::All,
        };
        let query = "follow=true&previous=false&timestamps=1&sinceSeconds=60&tailLines=0&limitBytes=5&stream=All";
        assert_eq!(read(query), Ok(expected));
        assert_eq!(read("tail=all&tailLines=3").unwrap().tail_lines, None);
        assert_eq!(read("tail=2").unwrap().tail_lines, Some(2));
        assert_eq!(read("stream=Stderr").unwrap().stream, LogStream::Stderr);
        let since = read("sinceTime=1970-01-01T00:00:07Z").unwrap().since;
        assert_eq!(since, Some(Timestamp::from_second(7).unwrap()));
    }

    #[test]
    fn wrong_options_are_refused() {
        for (query, wrong) in [
            ("tailLines=x", Wrong::Unreadable),
            ("sinceTime=yesterday", Wrong::Unreadable),
            ("tailLines=-1", Wrong::Invalid),
            ("limitBytes=0", Wrong::Invalid),
            ("sinceSeconds=0", Wrong::Invalid),
            ("sinceSeconds=1&sinceTime=1970-01-01T00:00:07Z", Wrong::Invalid),
            ("stream=Both", Wrong::Invalid),
            ("stream=Stdout&tailLines=1", Wrong::Invalid),
        ] {
            assert_eq!(read(query), Err(wrong), "{query}");
        }
    }
}
