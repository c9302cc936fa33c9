//! The scheduler alone, without an API server: `cargo bench -p monopod-controller`.
//!
//! Prints Pods per second beside what kube-scheduler's own benchmarks have been published with, 680 to 810 on large clusters.
#![expect(clippy::print_stdout, reason = "a benchmark talks to the terminal")]

use monopod_controller::harness::place;

/// Pods per second that kube-scheduler's benchmarks have been published with.
const PUBLISHED: (f64, f64) = (680.0, 810.0);

fn main() {
    println!("hosts    Pods    placed    Pods/s    of kube-scheduler's {} to {}", PUBLISHED.0, PUBLISHED.1);
    for (hosts, pods) in [(100, 2_000), (1_000, 10_000), (10_000, 10_000)] {
        let (placed, took) = place(hosts, pods);
        let rate = f64::from(placed) / took.as_secs_f64();
        let (low, high) = (rate / PUBLISHED.1, rate / PUBLISHED.0);
        println!("{hosts:>6} {pods:>7} {placed:>8} {rate:>9.0}    {low:.1} to {high:.1} times");
    }
}
