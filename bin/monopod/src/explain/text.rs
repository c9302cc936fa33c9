//! The answer as a person reads it in a terminal: one block per Pod, the verdict first, then why, then the size.

use std::fmt::{self, Display};

use anstyle::{AnsiColor, Style};

use monopod_manifests::printable;

use super::report::{PodReport, Report, SizeReport, WasteReport};

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const DULL: Style = Style::new().dimmed();
const NAME: Style = Style::new().bold();

/// Prints a [`Report`] with escape sequences; whoever writes it to something else than a terminal strips them.
#[derive(Debug)]
pub(super) struct Text<'a>(pub(super) &'a Report);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for pod in &self.0.pods {
            pod_block(f, pod)?;
            writeln!(f)?;
        }
        summary(f, self.0)
    }
}

fn pod_block(f: &mut fmt::Formatter<'_>, pod: &PodReport) -> fmt::Result {
    let (style, verdict) = verdict(pod);
    let title = printable(&format!("{} {}/{}", pod.kind, pod.namespace, pod.name));
    writeln!(f, "{NAME}{title}{NAME:#}  {style}{verdict}{style:#}")?;
    profile_lines(f, pod)?;
    if !pod.runs() {
        line(f, "reason", &pod.reason, None)?;
        line(f, "message", &pod.message, None)?;
    }
    for violation in &pod.violations {
        let against = format!("{}: {}", violation.field, violation.message);
        line(f, "against", &against, violation.written_at.as_deref())?;
        line(f, "", &format!("{}: {}", violation.reason, violation.advice), None)?;
    }
    if let (Some(size), true) = (&pod.size, pod.supported) {
        size_lines(f, size, pod)?;
    }
    if let Some(role) = &pod.role {
        line(f, "role", role, None)?;
    }
    Ok(())
}

/// The profile that takes the Pod, or what every profile says against it.
fn profile_lines(f: &mut fmt::Formatter<'_>, pod: &PodReport) -> fmt::Result {
    if let Some(taker) = pod.profiles.iter().find(|profile| profile.takes) {
        return line(f, "profile", &taker.name, Some(&taker.answer));
    }
    line(f, "profile", "none", None)?;
    for profile in &pod.profiles {
        line(f, "", &format!("{}: {}", profile.name, profile.answer), None)?;
    }
    Ok(())
}

fn verdict(pod: &PodReport) -> (Style, &'static str) {
    match (&pod.profile, pod.supported) {
        (Some(_), true) => (GOOD, "runs in a microVM"),
        (Some(_), false) => (BAD, "not supported"),
        (None, true) => (BAD, "no profile"),
        (None, false) => (BAD, "no profile, and not supported"),
    }
}

fn size_lines(f: &mut fmt::Formatter<'_>, size: &SizeReport, pod: &PodReport) -> fmt::Result {
    let disk = format!("{} GiB of disk", size.ephemeral_gib);
    line(f, "size", &format!("{} ({:?}), {disk}", size.capacity_provisioned, size.mode), None)?;
    let (Some(exact), Some(waste)) = (&pod.exact, &pod.waste) else { return Ok(()) };
    let exact = format!("{}m CPU and {} MiB", exact.milli_cpu, exact.memory_mib);
    line(f, "exact", &format!("{exact}; the table of sizes {}", waste_text(waste)), None)
}

fn waste_text(waste: &WasteReport) -> String {
    let WasteReport { vcpu, memory_gib, cpu_percent, memory_percent } = waste;
    if *cpu_percent == 0.0 && *memory_percent == 0.0 {
        return "fits without waste".to_owned();
    }
    format!("wastes {vcpu} vCPU ({cpu_percent} %) and {memory_gib} GiB ({memory_percent} %)")
}

/// One line of a block, with a remark in brackets. Names come from the manifest: what they hold of control characters
/// is shown and not obeyed.
fn line(f: &mut fmt::Formatter<'_>, label: &str, text: &str, remark: Option<&str>) -> fmt::Result {
    write!(f, "  {label:8} {}", printable(text))?;
    if let Some(remark) = remark {
        write!(f, " {DULL}({}){DULL:#}", printable(remark))?;
    }
    writeln!(f)
}

fn summary(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let running = report.pods.iter().filter(|pod| pod.runs()).count();
    let alien = report.pods.iter().filter(|pod| pod.profile.is_none()).count();
    let refused = report.pods.len() - running - alien;
    let style = if report.all_run() { GOOD } else { BAD };
    writeln!(f, "{style}{running} run in microVMs, {refused} not supported, {alien} without a profile{style:#}")
}
