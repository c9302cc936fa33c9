//! Whether this machine can run a guest, and by what: found by running one.
//!
//! The guest is 16 bytes of code at the processor's reset address: it counts for a while and then ends QEMU with a code
//! of its own. It runs in the same jail as VMs do, so that the jail is tried too. KVM is tried first where its device
//! opens, which alone proves nothing. The outcome is kept in the run folder, for this start of the machine and this QEMU.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use monopod_types::MiB;
use monopod_vmm::VmError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::config::{Accelerator, Config};
use crate::jail::{Bind, Launched, Order, launch, program_binds};
use crate::place::{Place, Places};
use crate::process::Process;
use crate::qmp::{Message, decode};
use crate::record::{Record, boot_id};

/// How often the guest counts before it ends.
const TURNS: u32 = 20_000_000;

/// How long it may take; a machine that needs longer is of no use.
const LIMIT: Duration = Duration::from_secs(20);

/// What the guest writes to the port that ends QEMU, and the exit code that this makes.
const ANSWER: u8 = 42;
const EXIT: &str = "exit code 85";

/// Where the guest's code is in the jail.
const CODE: &str = "/probe";

/// Name of the kept outcome in the run folder.
const KEPT: &str = "probe.json";

/// What is known of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Version of QEMU.
    pub qemu_version: String,
    /// What was tried, in this order.
    pub attempts: Vec<Attempt>,
    /// What QEMU can do for templates.
    pub templates: TemplateSupport,
    /// Whether this was found earlier, since the machine was started.
    pub kept: bool,
}

/// What QEMU can do for templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateSupport {
    /// Leave shared memory where it is: what templates need.
    pub ignore_shared: bool,
    /// Memory at fixed places of a file.
    pub mapped_ram: bool,
}

/// One accelerator that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which.
    pub accelerator: Accelerator,
    /// How long the guest took from the process' start to its end, or why it did not run.
    pub outcome: Result<Duration, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    boot_id: String,
    qemu_version: String,
    templates: TemplateSupport,
    attempts: Vec<KeptAttempt>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptAttempt {
    kvm: bool,
    microseconds: Option<u64>,
    failure: Option<String>,
}

impl Report {
    /// The first that runs guests.
    #[must_use]
    pub fn chosen(&self) -> Option<Accelerator> {
        self.attempts.iter().find(|attempt| attempt.outcome.is_ok()).map(|attempt| attempt.accelerator)
    }

    /// Why it was chosen, or why nothing was, for people.
    #[must_use]
    pub fn why(&self) -> String {
        let told = self.attempts.iter().map(|Attempt { accelerator, outcome }| match outcome {
            Ok(took) => format!("{accelerator} ran a guest in {} ms", took.as_millis()),
            Err(why) => format!("{accelerator} did not run a guest: {why}"),
        });
        told.collect::<Vec<_>>().join("; ")
    }

    /// The chosen one, or an error that says what was tried.
    ///
    /// # Errors
    /// When nothing runs guests.
    pub fn accelerator(&self) -> Result<Accelerator, VmError> {
        self.chosen().ok_or_else(|| VmError::NoAccelerator { why: self.why() })
    }
}

/// Tries what there is, unless that was done since the machine was started. `config.accelerator` does not matter.
///
/// # Errors
/// When QEMU is not there or the probe cannot be prepared; an accelerator that does not work is in the report.
pub async fn probe(config: &Config, again: bool) -> Result<Report, VmError> {
    let qemu_version = crate::vmm::qemu_version(&config.qemu).await?;
    fs::create_dir_all(&config.run).map_err(VmError::host("make the run folder"))?;
    if let (false, Some(report)) = (again, read_kept(&config.run, &qemu_version)) {
        return Ok(report);
    }
    let templates = template_support(&config.qemu).await?;
    let places = Places::new(Arc::new(config.clone()));
    let mut attempts = Vec::new();
    for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
        let outcome = attempt(config, &places, accelerator).await.map_err(|error| whole(&error));
        let works = outcome.is_ok();
        attempts.push(Attempt { accelerator, outcome });
        if works {
            break;
        }
    }
    let report = Report { qemu_version, attempts, templates, kept: false };
    keep(&config.run, &report);
    Ok(report)
}

/// An error with its causes in one line.
fn whole(error: &VmError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

async fn attempt(config: &Config, places: &Arc<Places>, accelerator: Accelerator) -> Result<Duration, VmError> {
    let device = match accelerator {
        Accelerator::Kvm => {
            let device = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
            Some(device.map_err(VmError::host("open /dev/kvm"))?)
        }
        Accelerator::Tcg => None,
    };
    let place = places.take(&Record::new(None), config.allowance.memory + MiB(64))?;
    let files: Vec<_> = device.iter().map(AsFd::as_fd).collect();
    let outcome = run(config, &place, accelerator, &files).await;
    place.clear().await;
    outcome
}

async fn run(
    config: &Config,
    place: &Place,
    accelerator: Accelerator,
    files: &[std::os::fd::BorrowedFd<'_>],
) -> Result<Duration, VmError> {
    let prepare = || VmError::host("prepare the probe");
    let (root, code, log) = (place.folder.join("root"), place.folder.join("probe"), place.folder.join("log"));
    fs::create_dir(&root).map_err(prepare())?;
    fs::write(&code, guest()).map_err(prepare())?;
    // The folder is closed to everybody else; in the jail the file has to be readable.
    fs::set_permissions(&code, std::os::unix::fs::PermissionsExt::from_mode(0o444)).map_err(prepare())?;
    let mut binds = program_binds();
    binds.push(Bind::read_only(&code, CODE));
    let order = Order {
        cgroup_entrances: place.cgroup.entrances(),
        root,
        binds,
        user: place.user,
        command: command(&config.qemu, accelerator),
    };
    let started = Instant::now();
    let (child, socket) = launch(&config.jail, &order, files, fs::File::create(&log).map_err(prepare())?)?.into_parts();
    let process = Process::started(child).map_err(prepare())?;
    let ended = async {
        Launched::entered(socket).await?;
        Ok::<_, VmError>(process.ended().await)
    };
    let ended = timeout(LIMIT, ended).await;
    let took = Duration::from_micros(to_micros(started.elapsed()));
    process.kill();
    process.ended().await;
    let how = ended.map_err(|_| VmError::TimedOut { what: "a guest of 16 bytes".to_owned(), limit: LIMIT })??;
    if how == EXIT {
        return Ok(took);
    }
    let said = fs::read_to_string(&log).unwrap_or_default();
    Err(VmError::Died { how: format!("{how} {}", said.trim()).trim().to_owned() })
}

fn command(qemu: &Path, accelerator: Accelerator) -> Vec<String> {
    let qemu = qemu.to_string_lossy();
    let mut command = vec![&*qemu, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-m", "16"];
    command.extend(match accelerator {
        Accelerator::Kvm => {
            ["-add-fd", "fd={fd0},set=0", "-accel", "kvm,device=/dev/fdset/0", "-cpu", "host"].as_slice()
        }
        Accelerator::Tcg => ["-accel", "tcg", "-cpu", "max"].as_slice(),
    });
    command.extend(["-bios", CODE, "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
    command.extend(["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
    command.into_iter().map(str::to_owned).collect()
}

/// A firmware image of 64 KiB that holds nothing but the code at the reset address, its last 16 bytes.
fn guest() -> Vec<u8> {
    let mut code = vec![0x66, 0xb9];
    code.extend(TURNS.to_le_bytes()); // mov ecx, TURNS
    code.extend([0x66, 0x49]); // turn: dec ecx
    code.extend([0x75, 0xfc]); // jnz turn
    code.extend([0xb0, ANSWER]); // mov al, ANSWER
    code.extend([0xe6, 0xf4]); // out 0xf4, al
    code.extend([0xf4, 0xf4]); // hlt
    let mut image = vec![0xf4; (64 << 10) - code.len()];
    image.extend(code);
    image
}

/// Asks QEMU what it can do, without a machine and without a guest.
async fn template_support(qemu: &Path) -> Result<TemplateSupport, VmError> {
    let name = || VmError::host(format!("ask {} what it can do", qemu.display()));
    let mut child = Command::new(qemu);
    child.args(["-nodefaults", "-no-user-config", "-display", "none", "-machine", "none", "-qmp", "stdio"]);
    child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = child.spawn().map_err(name())?;
    if let Some(mut input) = child.stdin.take() {
        for command in ["qmp_capabilities", "query-migrate-capabilities", "quit"] {
            input.write_all(format!("{{\"execute\": \"{command}\"}}\n").as_bytes()).await.map_err(name())?;
        }
    }
    let late = |_| VmError::TimedOut { what: "the VMM's list of capabilities".to_owned(), limit: LIMIT };
    let output = timeout(LIMIT, child.wait_with_output()).await.map_err(late)?.map_err(name())?;
    let mut names = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n') {
        if let Ok(Message::Reply { outcome: Ok(Value::Array(capabilities)), .. }) = decode(line) {
            names.extend(capabilities.into_iter().filter_map(|one| Some(one.get("capability")?.as_str()?.to_owned())));
        }
    }
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    Ok(TemplateSupport { ignore_shared: has("x-ignore-shared"), mapped_ram: has("mapped-ram") })
}

fn read_kept(run: &Path, qemu_version: &str) -> Option<Report> {
    let kept: Kept = serde_json::from_slice(&fs::read(run.join(KEPT)).ok()?).ok()?;
    if kept.boot_id != boot_id() || kept.qemu_version != qemu_version {
        return None;
    }
    let attempts = kept.attempts.into_iter().map(|KeptAttempt { kvm, microseconds, failure }| Attempt {
        accelerator: if kvm { Accelerator::Kvm } else { Accelerator::Tcg },
        outcome: microseconds.map(Duration::from_micros).ok_or_else(|| failure.unwrap_or_default()),
    });
    let attempts = attempts.collect();
    Some(Report { qemu_version: kept.qemu_version, attempts, templates: kept.templates, kept: true })
}

fn to_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Not being able to keep it costs the next start a probe, and nothing else.
fn keep(run: &Path, report: &Report) {
    let attempts = report.attempts.iter().map(|Attempt { accelerator, outcome }| KeptAttempt {
        kvm: *accelerator == Accelerator::Kvm,
        microseconds: outcome.as_ref().ok().map(|took| to_micros(*took)),
        failure: outcome.as_ref().err().cloned(),
    });
    let attempts = attempts.collect();
    let kept =
        Kept { boot_id: boot_id(), qemu_version: report.qemu_version.clone(), templates: report.templates, attempts };
    let half = run.join("probe.json.new");
    let written = serde_json::to_vec(&kept).map_err(std::io::Error::from).and_then(|text| fs::write(&half, text));
    if let Err(error) = written.and_then(|()| fs::rename(&half, run.join(KEPT))) {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(error, "the outcome of the probe is not kept");
    }
}

#[cfg(test)]
mod tests {
    use super::{Accelerator, Attempt, Duration, Report, TemplateSupport, guest, keep, read_kept};

    fn report(attempts: Vec<Attempt>) -> Report {
        let templates = TemplateSupport { ignore_shared: true, mapped_ram: true };
        Report { qemu_version: "10.0.2".to_owned(), attempts, templates, kept: false }
    }

    #[test]
    fn the_code_ends_at_the_end_of_the_image() {
        let image = guest();
        assert_eq!(image.len(), 64 << 10);
        assert_eq!(image.get((64 << 10) - 16..).unwrap().get(..2).unwrap(), [0x66, 0xb9]);
    }

    #[test]
    fn the_first_that_works_is_chosen_and_the_reason_told() {
        let failed = Attempt { accelerator: Accelerator::Kvm, outcome: Err("it hangs".to_owned()) };
        let works = Attempt { accelerator: Accelerator::Tcg, outcome: Ok(Duration::from_millis(120)) };
        let both = report(vec![failed.clone(), works]);
        assert_eq!(both.accelerator().unwrap(), Accelerator::Tcg);
        assert_eq!(both.why(), "kvm did not run a guest: it hangs; tcg ran a guest in 120 ms");
        assert_eq!(report(vec![failed]).accelerator().unwrap_err().reason(), "NoAccelerator");
    }

    #[test]
    fn an_outcome_is_kept_for_the_same_qemu_only() {
        let folder = tempfile::tempdir().unwrap();
        let attempt = Attempt { accelerator: Accelerator::Tcg, outcome: Ok(Duration::from_millis(120)) };
        let report = report(vec![attempt]);
        keep(folder.path(), &report);
        assert_eq!(read_kept(folder.path(), "10.0.2"), Some(Report { kept: true, ..report }));
        assert_eq!(read_kept(folder.path(), "11.0.0"), None);
    }
}
