//! `monopod explain`: reads manifests, decides about every Pod in them, prints the answers.
//!
//! The decisions are `monopod_policy`'s; here is where the snapshot comes from and how the answer looks.
//! [`Objects`] is the seam: today manifests fill it, a live cluster can.

mod report;
mod text;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use clap::ValueEnum;
use k8s_openapi::api::core::v1::ServiceAccount;
use monopod_manifests::{
    IgnoredObject, Input, Located, ManifestError, ManifestErrors, Objects, Purpose, Workload, parse, read,
};
use monopod_policy::admission::Storage;
use monopod_policy::binding::{add_ephemeral_claims, bind_new_claims};
use monopod_policy::decision::{Decision, Snapshot, decide};
use monopod_policy::defaults::{self, Defaults};
use monopod_policy::mutation::{role_arn, service_account_name};
use monopod_policy::profile::{CompileError, WithoutPhase};
use monopod_policy::references::Keys;
use monopod_policy::sizing::{QuantityProblem, SizingError};

use crate::Exit;
use report::{PodReport, Report, Subject};
use text::Text;

/// Say which profile takes each Pod, whether a microVM can run it and how big it will be, and why.
///
/// Reads Pods and everything that makes Pods (Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob,
/// ReplicationController). FargateProfiles, Subnets, PersistentVolumeClaims, PersistentVolumes, ServiceAccounts,
/// ConfigMaps, Secrets, LimitRanges and RuntimeClasses in the same input are used for the answers.
///
/// Exit code: 0 when every Pod is taken by a profile and supported, 1 when one is not, 2 when the input is bad.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Manifests to explain: a file, a directory, or - for standard input; may be given several times.
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-", required = true)]
    filenames: Vec<PathBuf>,
    /// Also read the directories below a directory.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// More manifests, read before the others: the platform team's profiles and subnets.
    #[arg(long, value_name = "FILE|DIR|-")]
    profiles: Vec<PathBuf>,
    /// How to print the answers.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// A form of the answer.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs; docs/explain.md describes the fields.
    Json,
    /// The same as json, in YAML.
    Yaml,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum ExplainError {
    #[error(transparent)]
    Manifests(#[from] ManifestErrors),
    /// Amounts that no API server accepts.
    #[error("{} amounts cannot be used", .0.len())]
    Amounts(Vec<ManifestError>),
    #[error(transparent)]
    Profiles(#[from] CompileError),
    #[error("the input holds no Pod and nothing that makes Pods")]
    NoPods,
    #[error("failed to write the answer")]
    Write(#[from] std::io::Error),
    #[error("failed to write the answer as {0}")]
    Encode(&'static str),
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &Arguments) -> Exit {
    match explain(arguments) {
        Ok(true) => Exit::Success,
        Ok(false) => Exit::Refused,
        Err(error) => {
            match &error {
                ExplainError::Manifests(errors) => errors.iter().for_each(|error| crate::terminal::error(error)),
                ExplainError::Amounts(errors) => errors.iter().for_each(|error| crate::terminal::error(error)),
                ExplainError::Profiles(_) | ExplainError::NoPods | ExplainError::Write(_) | ExplainError::Encode(_) => {
                    crate::terminal::error(&error)
                }
            }
            Exit::BadInput
        }
    }
}

/// Prints the answer; whether all Pods would run.
fn explain(arguments: &Arguments) -> Result<bool, ExplainError> {
    let named = arguments.profiles.iter().chain(&arguments.filenames);
    let inputs: Vec<Input> = named.map(|path| input(path.clone(), arguments.recursive)).collect();
    let objects = parse(&read(&inputs)?, Purpose::Decide)?;
    tell_ignored(&objects.ignored);
    let report = report(&objects)?;
    match print(&report, arguments.output) {
        // Whoever reads the answer has read enough; the exit code still tells the whole of it.
        Err(ExplainError::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        printed => printed?,
    }
    Ok(report.all_run())
}

fn input(path: PathBuf, recursive: bool) -> Input {
    if path.as_os_str() == "-" { Input::Stdin } else { Input::Path { path, recursive } }
}

/// Decides about every Pod of the input, as if all of it had just been applied to a cluster.
fn report(objects: &Objects) -> Result<Report, ExplainError> {
    if objects.workloads.is_empty() {
        return Err(ExplainError::NoPods);
    }
    let volumes: Vec<_> = objects.persistent_volumes.iter().map(|volume| volume.object.clone()).collect();
    let mut claims: Vec<_> = objects.persistent_volume_claims.iter().map(|claim| claim.object.clone()).collect();
    add_ephemeral_claims(&mut claims, objects.workloads.iter().map(|workload| &workload.object.pod));
    bind_new_claims(&mut claims, &volumes);
    let profiles = objects.profiles.iter().map(|profile| &profile.object);
    let subnets: Vec<_> = objects.subnets.iter().map(|subnet| subnet.object.clone()).collect();
    let snapshot =
        Snapshot::new(profiles, WithoutPhase::Active, &subnets)?.with_storage(Storage::new(&claims, &volumes));
    let (mut pods, mut unusable) = (Vec::new(), Vec::new());
    let limit_ranges = objects.limit_ranges.iter().map(|range| &range.object);
    let runtime_classes = objects.runtime_classes.iter().map(|class| &class.object);
    let cluster = Defaults::new(limit_ranges, runtime_classes);
    for workload in &objects.workloads {
        let pod = defaults::apply(&workload.object.pod, &cluster);
        let decision = decide(&pod, &snapshot);
        match &decision.size {
            Err(SizingError::Quantity { field, value, problem }) => {
                unusable.push(unusable_amount(workload, field, value, problem));
            }
            Ok(_) | Err(_) => pods.push(pod_report(&workload.object, objects, &decision)),
        }
    }
    if unusable.is_empty() {
        Ok(Report { pods, warnings: warnings(objects) })
    } else {
        Err(ExplainError::Amounts(unusable))
    }
}

fn unusable_amount(workload: &Located<Workload>, field: &str, value: &str, problem: &QuantityProblem) -> ManifestError {
    let origin = workload.object.origin_of(field).unwrap_or_else(|| workload.origin.clone());
    ManifestError::Field { origin, field: field.to_owned(), message: format!("{value:?} cannot be used: {problem}") }
}

fn pod_report(workload: &Workload, objects: &Objects, decision: &Decision<'_>) -> PodReport {
    let subject = Subject {
        kind: workload.kind.as_str(),
        namespace: &workload.namespace,
        name: &workload.name,
        role: role(workload, objects),
    };
    let written_at = |field: &str| workload.origin_of(field).map(|origin| format!("{}:{}", origin.file, origin.line));
    PodReport::new(&subject, decision, &written_at)
}

/// Mistakes that Kubernetes would accept: unknown fields, and keys that a Pod would wait for in vain.
fn warnings(objects: &Objects) -> Vec<String> {
    let secrets = objects.secrets.iter().map(|secret| &secret.object);
    let keys = Keys::new(objects.config_maps.iter().map(|map| &map.object), secrets);
    let unknown = objects.warnings.iter().map(|warning| format!("{}: {}", warning.origin, warning.message));
    let missing = objects.workloads.iter().flat_map(|workload| {
        let missing = keys.missing(&workload.object.pod).into_iter();
        missing.map(|missing| {
            let place = workload.object.origin_of(&missing.field).unwrap_or_else(|| workload.origin.clone());
            format!("{place}: {missing}")
        })
    });
    unknown.chain(missing).collect()
}

/// The role that the Pod's ServiceAccount gives it, where that is in the input.
fn role<'a>(workload: &Workload, objects: &'a Objects) -> Option<&'a str> {
    let name = service_account_name(&workload.pod);
    let is_it = |account: &&ServiceAccount| {
        account.metadata.name.as_deref() == Some(name)
            && account.metadata.namespace.as_deref() == Some(&workload.namespace)
    };
    objects.service_accounts.iter().map(|account| &account.object).find(is_it).and_then(role_arn)
}

/// Says which objects played no part, so that a misspelt kind does not go unnoticed.
fn tell_ignored(ignored: &[IgnoredObject]) {
    let kinds: BTreeSet<String> =
        ignored.iter().map(|object| format!("{} {}", object.api_version, object.kind)).collect();
    if !kinds.is_empty() {
        let kinds: Vec<_> = kinds.into_iter().collect();
        let objects = if ignored.len() == 1 { "object of a kind that plays" } else { "objects of kinds that play" };
        crate::terminal::note(&format!("{} {objects} no part: {}", ignored.len(), kinds.join(", ")));
    }
}

fn print(report: &Report, output: Output) -> Result<(), ExplainError> {
    let mut stdout = anstream::stdout().lock();
    match output {
        Output::Text => {
            for warning in &report.warnings {
                crate::terminal::warning(warning);
            }
            write!(stdout, "{}", Text(report))?;
        }
        Output::Json => {
            let json = serde_json::to_string_pretty(report).map_err(|_| ExplainError::Encode("JSON"))?;
            writeln!(stdout, "{json}")?;
        }
        Output::Yaml => {
            let yaml = serde_saphyr::to_string(report).map_err(|_| ExplainError::Encode("YAML"))?;
            write!(stdout, "{yaml}")?;
        }
    }
    stdout.flush()?;
    Ok(())
}
