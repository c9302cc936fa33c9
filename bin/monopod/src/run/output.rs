//! What `monopod run` shows: stages and pulls on standard error, the containers' output on standard output.

use std::collections::HashMap;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use monopod_host_proto::v1::pod_event::Kind;
use monopod_host_proto::v1::{Finished, KubernetesEvent, LogsRequest, PodName, PullProgress, Stage};

use crate::daemon::Client;
use crate::failure::Failure;
use crate::terminal;

/// News of a Pod, as they come.
pub(crate) struct Progress {
    /// Bars of pulls, on a terminal.
    bars: MultiProgress,
    pulls: HashMap<String, ProgressBar>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { bars: MultiProgress::new(), pulls: HashMap::new() }
    }

    /// Shows one piece of news.
    pub(crate) fn show(&mut self, kind: &Kind) {
        match kind {
            Kind::Admitted(admitted) => {
                if let Some(size) = &admitted.size {
                    let disk = terminal::bytes(size.scratch);
                    self.line(&format!("size     {}, {disk} of disk", crate::ps::size(size)));
                }
            }
            Kind::Stage(stage) => self.stage(stage),
            Kind::Pull(pull) => self.pull(pull),
            Kind::Event(event) => self.event(event),
            Kind::Published(port) => {
                let address = crate::ports::shown_address(&port.host_address);
                self.line(&format!("port     {address}:{} leads to port {} of the Pod", port.host_port, port.pod_port));
            }
            // Whoever watches acts on these two.
            Kind::Status(_) | Kind::Finished(_) => {}
        }
    }

    fn stage(&self, stage: &Stage) {
        // Steps within a stage are for `monopod inspect`.
        if !stage.name.contains('/') {
            let (took, at) = (millis(stage.nanoseconds), millis(stage.since_start_nanoseconds));
            self.line(&format!("{:<8} {took:>9}  at {at:>9}", stage.name));
        }
    }

    fn event(&self, event: &KubernetesEvent) {
        // The ordinary course of things is told by the stages.
        if event.r#type == "Warning" {
            self.bars.suspend(|| terminal::warning(&format!("{}: {}", event.reason, event.message)));
        }
    }

    fn pull(&mut self, pull: &PullProgress) {
        if !stderr().is_terminal() {
            return;
        }
        let bar = self.pulls.entry(pull.image.clone()).or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {binary_bytes}/{binary_total_bytes}");
            let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.bars.add(bar)
        });
        bar.set_message(format!("{} {}", pull.step, pull.image));
        bar.set_length(pull.total.max(pull.done));
        bar.set_position(pull.done);
        if pull.step == "ready" {
            bar.finish_and_clear();
        }
    }

    /// Says that the Pod is being stopped.
    pub(crate) fn stopping(&self, at_once: bool) {
        let text = if at_once {
            "stopping the Pod at once"
        } else {
            "stopping the Pod; press Ctrl-C again to stop it at once"
        };
        self.bars.suspend(|| terminal::note(text));
    }

    /// Says how it ended, where that is more than «well».
    pub(crate) fn finished(&self, finished: &Finished) {
        let words = [&*finished.phase, &*finished.reason, &*finished.message];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        self.line(&format!("ended    {}, exit code {}", words.join(": "), finished.exit_code));
    }

    fn line(&self, text: &str) {
        self.bars.suspend(|| terminal::progress(text));
    }
}

fn millis(nanoseconds: u64) -> String {
    format!("{:.1} ms", Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3)
}

/// Copies the output of one start of a container to standard output; with a prefix on every line where there are
/// several containers.
pub(crate) async fn follow(mut client: Client, pod: PodName, container: String, prefix: Option<String>) {
    let request = LogsRequest { pod: Some(pod), container, follow: true, ..LogsRequest::default() };
    let copied = async {
        let mut stream = client.logs(request).await?.into_inner();
        let mut lines = Lines { prefix, rest: Vec::new() };
        while let Some(message) = stream.message().await? {
            lines.write(&message.data)?;
        }
        lines.end()
    };
    if let Err(error) = copied.await {
        terminal::error(&error);
    }
}

/// Output that is written line by line, so that containers do not write into each other's lines.
struct Lines {
    prefix: Option<String>,
    rest: Vec<u8>,
}

impl Lines {
    fn write(&mut self, data: &[u8]) -> Result<(), Failure> {
        self.rest.extend_from_slice(data);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        self.write_lines(&whole)
    }

    fn end(mut self) -> Result<(), Failure> {
        let rest = std::mem::take(&mut self.rest);
        self.write_lines(&rest)
    }

    fn write_lines(&self, lines: &[u8]) -> Result<(), Failure> {
        let mut output = stdout().lock();
        let mut write = || -> std::io::Result<()> {
            let Some(prefix) = &self.prefix else {
                output.write_all(lines)?;
                return output.flush();
            };
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                write!(output, "[{prefix}] ")?;
                output.write_all(line)?;
            }
            output.flush()
        };
        write().map_err(|source| Failure::Io { action: "failed to write the output".to_owned(), source })
    }
}
