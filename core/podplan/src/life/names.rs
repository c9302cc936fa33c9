//! Names of containers, of their instances, and of signals.

use std::fmt;

/// Name of a container, unique in its Pod over all three kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerName(String);

/// Name of one instance of a container: each start has a new one. Unique in the life of the Pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

/// A signal by its number on Linux x86-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(i32);

/// Signals in the order of their numbers, from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// Other names of the same signals.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// First and last of the real-time signals, as Kubernetes names them.
const REAL_TIME: (i32, i32) = (34, 64);

impl ContainerName {
    /// Takes a name as the Pod has it.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ContainerId {
    /// Takes an id that was made before.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id of the instance that has so many restarts before it.
    pub fn numbered(container: &ContainerName, attempt: u32) -> Self {
        Self(format!("{container}-{attempt}"))
    }

    /// How many restarts an instance of a container has before it; nothing when it is not one of that container.
    pub fn attempt(&self, container: &ContainerName) -> Option<u32> {
        self.0.strip_prefix(container.as_str())?.strip_prefix('-')?.parse().ok()
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Signal {
    /// Asks a program to end.
    pub const TERM: Self = Self(15);
    /// Ends a program.
    pub const KILL: Self = Self(9);

    /// Reads a signal as Pods and images write it: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_uppercase();
        let (first, last) = REAL_TIME;
        if let Ok(number) = text.parse::<i32>() {
            return (1..=last).contains(&number).then_some(Self(number));
        }
        let name = text.strip_prefix("SIG").unwrap_or(&text);
        let standard = NAMES.iter().zip(1..).find(|(known, _)| **known == name).map(|(_, number)| number);
        let alias = ALIASES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let from_first = name.strip_prefix("RTMIN").and_then(|rest| offset(rest, '+')).map(|offset| first + offset);
        let from_last = name.strip_prefix("RTMAX").and_then(|rest| offset(rest, '-')).map(|offset| last - offset);
        let real_time = from_first.or(from_last).filter(|number| (first..=last).contains(number));
        standard.or(alias).or(real_time).map(Self)
    }

    /// Its number.
    pub fn number(self) -> i32 {
        self.0
    }
}

/// The number after a sign; nothing at all counts as 0.
fn offset(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    text.strip_prefix(sign)?.parse().ok().filter(|offset| (0..=30).contains(offset))
}

impl fmt::Display for ContainerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Signal {
    /// As Kubernetes writes it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = REAL_TIME;
        let middle = i32::midpoint(first, last);
        let index = usize::try_from(self.0 - 1).ok();
        match index.and_then(|index| NAMES.get(index)) {
            Some(name) => write!(formatter, "SIG{name}"),
            None if self.0 == first => formatter.write_str("SIGRTMIN"),
            None if self.0 == last => formatter.write_str("SIGRTMAX"),
            None if self.0 <= middle => write!(formatter, "SIGRTMIN+{}", self.0 - first),
            None => write!(formatter, "SIGRTMAX-{}", last - self.0),
        }
    }
}
