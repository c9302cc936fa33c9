//! `bench start`: how long it takes until a container runs, by every way there is.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use crate::bare::Bare;
use crate::bundle::Bundle;
use crate::figures::{Sample, millis};
use crate::place::{Place, Start, Way, idle_pod};

/// Size of the Pods that are compared with a bare machine: one whole CPU, which that has, too.
const CPU: &str = "1";
const MEMORY: u64 = 512;
/// The smallest size there is, of which many are started at once.
const SMALL_CPU: &str = "250m";
/// How many are started at once.
const CROWDS: [usize; 3] = [5, 10, 20];

/// What the host does while the guest stands still or is not there yet. The guest's part of the rest is not ours to
/// tell from the call that waits for it.
const OUTSIDE: [&str; 4] = ["admitted", "image", "network", "vm"];

/// All starts of one run.
#[derive(Debug, Default)]
struct Starts {
    bare: Vec<Duration>,
    boot: Vec<Start>,
    template: Vec<Start>,
    spare: Vec<Start>,
    runc: Vec<Duration>,
}

/// Measures and prints.
pub(crate) async fn run(program: &Path, rounds: usize) -> Result<()> {
    let bundle = Bundle::new().await?;
    let boot = Place::new(program, Way::Boot).await?;
    let template = Place::new(program, Way::Template).await?;
    let spare = Place::new(program, Way::Spare).await?;
    let info = template.info().await?;
    println!("Accelerator {}, guest {}, {rounds} rounds in turns.\n", info.accelerator, info.guest_version);
    let bare = Bare::new(&info.accelerator).await?;
    // Makes the templates, fills the caches, counts for nothing.
    for place in [&boot, &template, &spare] {
        once(place, 0).await?;
    }
    bare.boot(MEMORY).await?;
    bundle.run(0).await?;
    let mut starts = Starts::default();
    for round in 1..=rounds {
        starts.bare.push(bare.boot(MEMORY).await?);
        starts.boot.push(once(&boot, round).await?);
        starts.template.push(once(&template, round).await?);
        starts.runc.push(bundle.run(round).await?);
        starts.spare.push(once(&spare, round).await?);
    }
    drop((boot, spare));
    starts.print();
    crowds(&template).await
}

/// Starts a Pod, and ends it.
async fn once(place: &Place, round: usize) -> Result<Start> {
    let name = format!("start-{round}");
    let start = place.start(idle_pod(&name, CPU, &format!("{MEMORY}Mi"))).await?;
    place.remove(&name).await?;
    place.settled().await?;
    Ok(start)
}

impl Starts {
    fn print(self) {
        // A start that found no process waiting is another one from the template.
        let (spare, without): (Vec<_>, Vec<_>) =
            self.spare.into_iter().partition(|start| start.stage("vm/spare").is_some());
        let missed = without.len();
        let totals = |starts: &[Start]| Sample::new(starts.iter().map(|start| start.total).collect());
        let bare = Sample::new(self.bare);
        let rows = [
            ("(a) bare QEMU to /init", bare.clone()),
            ("(b) Pod, booted", totals(&self.boot)),
            ("(c) Pod, from a template", totals(&self.template)),
            ("(c) Pod, from a template, a process waiting", totals(&spare)),
            ("(d) runc, same root file system", Sample::new(self.runc)),
        ];
        println!("| until a container runs | n | p50 | p90 | p99 | (a) is so many times |\n|---|---|---|---|---|---|");
        for (what, sample) in rows {
            println!("| {what} | {} | {:.2} |", sample.cells(), bare.times(&sample));
        }
        println!("\nStarts that found no process waiting, and do not count: {missed}.");
        stages("booted", &self.boot);
        stages("from a template", &self.template);
        stages("from a template, a process waiting", &spare);
    }
}

/// Prints where the time goes.
fn stages(what: &str, starts: &[Start]) {
    let Some(first) = starts.first() else { return };
    println!("\n| stage, {what} | n | p50 | p90 | p99 |\n|---|---|---|---|---|");
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in &first.stages {
        if !names.contains(&name.as_str()) && !matches!(name.as_str(), "sized" | "placed") {
            names.push(name);
        }
    }
    for name in names {
        let sample = Sample::new(starts.iter().filter_map(|start| start.stage(name)).collect());
        println!("| {name} | {} |", sample.cells());
    }
    let sum = |start: &Start, names: &[&str]| names.iter().filter_map(|name| start.stage(name)).sum::<Duration>();
    let outside = Sample::new(starts.iter().map(|start| sum(start, &OUTSIDE)).collect());
    println!("| **outside the guest: {}** | {} |", OUTSIDE.join(", "), outside.cells());
    let cpu = Sample::new(starts.iter().map(|start| start.daemon_cpu).collect());
    println!("| CPU time of the daemon in all of it | {} |", cpu.cells());
}

/// Many at once, of the smallest size.
async fn crowds(place: &Place) -> Result<()> {
    // Makes its template.
    place.start(idle_pod("crowd", SMALL_CPU, &format!("{MEMORY}Mi"))).await?;
    place.remove("crowd").await?;
    println!(
        "\n| at once, 250m, from a template | n | p50 | p90 | p99 | until all run | a Pod |\n|---|---|---|---|---|---|---|"
    );
    for size in CROWDS {
        place.settled().await?;
        let begun = Instant::now();
        let names: Vec<_> = (0..size).map(|number| format!("crowd-{size}-{number}")).collect();
        let mut taken = Vec::new();
        let mut starts = JoinSet::new();
        for name in &names {
            let (client, pod) = (place.client()?.clone(), idle_pod(name, SMALL_CPU, &format!("{MEMORY}Mi")));
            starts.spawn(crate::place::start_by(client, pod));
        }
        while let Some(start) = starts.join_next().await {
            taken.push(start.context("a start panicked")??);
        }
        let all = begun.elapsed();
        let each = all / u32::try_from(size)?;
        println!("| {size} | {} | {} | {} |", Sample::new(taken).cells(), millis(all), millis(each));
        for name in names {
            place.remove(&name).await?;
        }
    }
    Ok(())
}
