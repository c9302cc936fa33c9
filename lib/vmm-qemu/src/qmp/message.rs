//! One line of the control channel.

use serde::Deserialize;
use serde_json::Value;

/// Most bytes in one line: the whole console, each byte of it escaped, with room to spare.
pub const MAX_LINE: usize = 1 << 20;

/// What QEMU says in one line.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The first line.
    Greeting {
        /// Such as `10.0.2`.
        version: String,
    },
    /// The outcome of a command.
    Reply {
        /// The command's number; none when QEMU could not read the command.
        id: Option<u64>,
        /// Its result, or why it was refused.
        outcome: Result<Value, String>,
    },
    /// Something happened.
    Event {
        /// Its name.
        name: String,
        /// More about it.
        data: Value,
    },
}

/// A line that is no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is too long.
    #[error("line of more than {MAX_LINE} bytes")]
    TooLong,
    /// It is not the JSON of a message.
    #[error("line that is no message")]
    Malformed(#[source] serde_json::Error),
    /// It is JSON, but none of what QEMU says.
    #[error("message of no known kind")]
    Unknown,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<Greeting>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
    #[serde(rename = "return")]
    result: Option<Value>,
    error: Option<Refusal>,
    id: Option<u64>,
}

#[derive(Deserialize)]
struct Greeting {
    version: Versions,
}

#[derive(Deserialize)]
struct Versions {
    qemu: Version,
}

#[derive(Deserialize)]
struct Version {
    major: u32,
    minor: u32,
    micro: u32,
}

#[derive(Deserialize)]
struct Refusal {
    desc: String,
}

/// Reads one line.
///
/// # Errors
/// When it is no message.
pub fn decode(line: &[u8]) -> Result<Message, MessageError> {
    if line.len() > MAX_LINE {
        return Err(MessageError::TooLong);
    }
    let line: Line = serde_json::from_slice(line).map_err(MessageError::Malformed)?;
    if let Some(Greeting { version: Versions { qemu: Version { major, minor, micro } } }) = line.greeting {
        return Ok(Message::Greeting { version: format!("{major}.{minor}.{micro}") });
    }
    if let Some(name) = line.event {
        return Ok(Message::Event { name, data: line.data });
    }
    if let Some(result) = line.result {
        return Ok(Message::Reply { id: line.id, outcome: Ok(result) });
    }
    match line.error {
        Some(Refusal { desc }) => Ok(Message::Reply { id: line.id, outcome: Err(desc) }),
        None => Err(MessageError::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{MAX_LINE, Message, MessageError, decode};

    #[test]
    fn each_kind_of_line_is_told_from_the_others() {
        let greeting = br#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "x"}, "capabilities": []}}"#;
        assert_eq!(decode(greeting).unwrap(), Message::Greeting { version: "10.0.2".to_owned() });
        let event =
            br#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true}}"#;
        let expect = Message::Event { name: "SHUTDOWN".to_owned(), data: json!({"guest": true}) };
        assert_eq!(decode(event).unwrap(), expect);
        let reply = Message::Reply { id: Some(3), outcome: Ok(json!({})) };
        assert_eq!(decode(br#"{"return": {}, "id": 3}"#).unwrap(), reply);
        let refusal = br#"{"id": 4, "error": {"class": "GenericError", "desc": "no such device"}}"#;
        assert_eq!(decode(refusal).unwrap(), Message::Reply { id: Some(4), outcome: Err("no such device".to_owned()) });
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert!(matches!(decode(b"{}"), Err(MessageError::Unknown)));
        assert!(matches!(decode(b"[1]"), Err(MessageError::Malformed(_))));
        assert!(matches!(decode(b"{\"return\": "), Err(MessageError::Malformed(_))));
        assert!(matches!(decode(&vec![b' '; MAX_LINE + 1]), Err(MessageError::TooLong)));
        let deep = "[".repeat(100_000);
        assert!(matches!(decode(format!("{{\"return\": {deep}").as_bytes()), Err(MessageError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn no_line_breaks_the_reader(line in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(decode(&line));
        }
    }
}
