//! The 74 sizes that AWS Fargate offers, and the search in them (Amazon EKS user guide, Fargate Pod configuration).

use monopod_types::{MiB, MilliCpu};

use super::Shape;

const COUNT: usize = 74;
const ROWS: [Row; 7] = [
    Row { cpu: MilliCpu(250), least: MiB(512), most: MiB(2 * 1024), step: Step::Double },
    Row { cpu: MilliCpu(500), least: MiB(1024), most: MiB(4 * 1024), step: Step::Add(MiB(1024)) },
    Row { cpu: MilliCpu(1000), least: MiB(2 * 1024), most: MiB(8 * 1024), step: Step::Add(MiB(1024)) },
    Row { cpu: MilliCpu(2000), least: MiB(4 * 1024), most: MiB(16 * 1024), step: Step::Add(MiB(1024)) },
    Row { cpu: MilliCpu(4000), least: MiB(8 * 1024), most: MiB(30 * 1024), step: Step::Add(MiB(1024)) },
    Row { cpu: MilliCpu(8000), least: MiB(16 * 1024), most: MiB(60 * 1024), step: Step::Add(MiB(4 * 1024)) },
    Row { cpu: MilliCpu(16_000), least: MiB(32 * 1024), most: MiB(120 * 1024), step: Step::Add(MiB(8 * 1024)) },
];

/// Every combination, by CPU and then by memory.
pub(super) static COMBINATIONS: [Shape; COUNT] = combinations();

/// The last combination, which is the largest in both.
pub(super) const LARGEST: Shape = Shape { cpu: ROWS[6].cpu, memory: ROWS[6].most };

/// The memory that goes with one amount of CPU.
struct Row {
    cpu: MilliCpu,
    least: MiB,
    most: MiB,
    step: Step,
}

/// From one amount of memory in a row to the next.
enum Step {
    Double,
    Add(MiB),
}

/// The smallest combination with at least so much of both: the least CPU first, then the least memory.
pub(super) fn smallest_that_holds(need: Shape) -> Option<Shape> {
    COMBINATIONS.iter().copied().find(|combination| need.fits_in(*combination))
}

/// Evaluated by the compiler, which refuses a count other than [`COUNT`].
const fn combinations() -> [Shape; COUNT] {
    let mut all = [Shape { cpu: MilliCpu::ZERO, memory: MiB::ZERO }; COUNT];
    let (mut count, mut row) = (0, 0);
    while row < ROWS.len() {
        let Row { cpu, least, most, step } = &ROWS[row];
        let mut memory = least.0;
        while memory <= most.0 {
            all[count] = Shape { cpu: *cpu, memory: MiB(memory) };
            count += 1;
            memory = match step {
                Step::Double => memory * 2,
                Step::Add(amount) => memory + amount.0,
            };
        }
        row += 1;
    }
    assert!(count == COUNT);
    all
}
