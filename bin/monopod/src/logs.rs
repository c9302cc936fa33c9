//! `monopod logs`: what a container has written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use monopod_host_proto::v1::LogsRequest;

use crate::Exit;
use crate::daemon::Folders;
use crate::failure::Failure;
use crate::pods::PodArgument;

/// Print the output of a container.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pod: PodArgument,
    /// Container, where the Pod has several.
    #[arg(short, long)]
    container: Option<String>,
    /// Go on printing what is written.
    #[arg(short, long)]
    follow: bool,
    /// The output of the container's life before its last start.
    #[arg(short, long)]
    previous: bool,
    /// Begin every line with its time.
    #[arg(long)]
    timestamps: bool,
    /// Only the last lines; -1 for all.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, value_name = "LINES")]
    tail: i64,
    /// Only lines of the last so many seconds, minutes or hours, such as 30s, 5m or 2h.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "since_time")]
    since: Option<Duration>,
    /// Only lines from this time on, such as 2026-11-24T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    since_time: Option<Timestamp>,
    /// At most so many bytes.
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
    #[command(flatten)]
    folders: Folders,
}

/// Runs the subcommand.
pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let mut client = arguments.folders.connect().await?;
    let request = LogsRequest {
        pod: Some(arguments.pod.to_proto()),
        since: since(&arguments),
        container: arguments.container.unwrap_or_default(),
        follow: arguments.follow,
        previous: arguments.previous,
        timestamps: arguments.timestamps,
        tail_lines: u64::try_from(arguments.tail).ok(),
        limit_bytes: arguments.limit_bytes,
    };
    let mut stream = client.logs(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        if !crate::terminal::print_bytes(&message.data)? {
            break;
        }
    }
    Ok(Exit::Success)
}

fn since(arguments: &Arguments) -> u64 {
    let by_duration = arguments.since.map(|span| SystemTime::now() - span);
    let by_time = arguments.since_time.map(SystemTime::from);
    let since = by_duration.or(by_time).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

/// Not a time span.
#[derive(Debug, thiserror::Error)]
#[error("write a number with a unit, such as 30s, 5m, 2h or 1h30m")]
struct NotADuration;

/// Reads a time span as Go writes it: numbers with the units h, m, s and ms.
fn duration(text: &str) -> Result<Duration, NotADuration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).ok_or(NotADuration)?;
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| NotADuration)?;
        let unit = tail.find(|character: char| character.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let span = match unit {
            "h" => number.checked_mul(3_600).map(Duration::from_secs),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "s" => Some(Duration::from_secs(number)),
            "ms" => Some(Duration::from_millis(number)),
            _ => None,
        };
        total = span.and_then(|span| total.checked_add(span)).ok_or(NotADuration)?;
        rest = tail;
    }
    if text.is_empty() { Err(NotADuration) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::{Duration, duration};

    #[test]
    fn time_spans_are_written_as_kubectl_has_them() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("2h", 7_200), ("1h30m", 5_400), ("0s", 0)] {
            assert_eq!(duration(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for text in ["", "5", "m", "5 m", "-5s", "5d", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
