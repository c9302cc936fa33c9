//! Guests that are restored from one template are no twins.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::machine::{Machine, PATIENCE, script_pod};

const GUESTS: usize = 200;
/// Guests that start at the same time.
const AT_ONCE: usize = 4;
/// How far a guest's clock may be off.
const OFF: Duration = Duration::from_secs(1);

/// What a Pod is asked: its clock, then what it is.
const TELL: &str = "adjtimex | sed -n 's/.*time.tv_u*sec: *//p'; head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \\n'; \
                    echo; cat /proc/sys/kernel/random/boot_id /sys/class/net/eth0/address";
/// A whole CPU, as a small part of one would make the test last longer.
const SIZE: &str = "    resources: {requests: {cpu: 1, memory: 256Mi}}\n";

/// What no two guests may have in common.
#[derive(Debug)]
struct Identity {
    random: String,
    boot_id: String,
    mac: String,
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Asks a Pod who it is. Its clock was read between two looks at ours; when these are too far apart to say how far off it
/// is, it is asked again.
fn ask(machine: &Machine, pod: &str) -> Identity {
    let begun = now();
    loop {
        let before = now();
        let answer = machine.exec(pod, &["sh", "-c", TELL]);
        let after = now();
        let lines: Vec<&str> = answer.lines().collect();
        let [seconds, micros, random, boot_id, mac] = lines[..] else { panic!("{pod} says {answer:?}") };
        let theirs = Duration::from_secs(seconds.parse().unwrap()) + Duration::from_micros(micros.parse().unwrap());
        assert!(theirs + OFF >= before && theirs <= after + OFF, "{pod}: {before:?} {theirs:?} {after:?}");
        if theirs <= before + OFF && theirs + OFF >= after {
            let [random, boot_id, mac] = [random, boot_id, mac].map(str::to_owned);
            return Identity { random, boot_id, mac };
        }
        assert!(after - begun < PATIENCE, "{pod} is too slow to say how far off its clock is");
    }
}

fn meet(machine: &Machine, number: usize) -> Identity {
    let name = format!("twin-{number}");
    let pod = script_pod(&name, "exec sleep 86400", "terminationGracePeriodSeconds: 0") + SIZE;
    // The first one has brought the image.
    let answer = machine.monopod_with(&["run", "-", "--detach", "--profile-mode", "exact"], pod.as_bytes());
    assert_eq!(answer.code, 0, "{}\n{}", answer.stderr, machine.daemon_words());
    let identity = ask(machine, &name);
    machine.ok(&["rm", "--force", &name]);
    identity
}

#[test]
fn vm_two_hundred_restored_guests_are_unique() {
    let machine = Machine::start();
    machine.run(&script_pod("first", "true", ""));
    // Makes the template.
    let mut all = vec![meet(&machine, 0)];
    let (next, (sender, met)) = (AtomicUsize::new(1), channel());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let (machine, next, sender) = (&machine, &next, sender.clone());
            scope.spawn(move || {
                while let Some(number) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number <= GUESTS) {
                    sender.send(meet(machine, number)).unwrap();
                }
            });
        }
        drop(sender);
        all.extend(met);
    });
    assert_eq!(all.len(), GUESTS + 1);
    assert!(!machine.daemon_words().contains("could not be restored"), "{}", machine.daemon_words());
    let different = |of: fn(&Identity) -> &String| all.iter().map(of).collect::<BTreeSet<_>>().len();
    assert!(all.iter().all(|one| one.random.len() == 64 && one.boot_id.len() == 36 && one.mac.len() == 17), "{all:?}");
    assert_eq!(different(|one| &one.random), all.len(), "random bytes");
    assert_eq!(different(|one| &one.boot_id), all.len(), "boot ids");
    assert_eq!(different(|one| &one.mac), all.len(), "MACs");
}
