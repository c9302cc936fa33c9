//! The command lines, word by word.

use std::path::Path;

use monopod_types::MiB;

use super::{Channels, Inherited, Origin, Program, Shape, arguments};
use crate::config::Accelerator;

const SHAPE: Shape = Shape { accelerator: Accelerator::Tcg, vcpus: 2, memory: MiB(512) };

fn channels() -> Channels {
    Channels { control: Inherited(0), agent: Inherited(1), kvm: Some(Inherited(2)) }
}

fn line(shape: Shape, origin: Origin) -> Vec<String> {
    let program =
        Program { qemu: Path::new("/usr/bin/qemu-system-x86_64"), kernel_parameters: "console=hvc0 quiet panic=-1" };
    arguments(&program, shape, origin, channels())
}

/// One option per line, for reading.
fn shown(line: &[String]) -> String {
    let mut text = String::new();
    for word in line {
        text.push_str(if word.starts_with('-') { "\n" } else { " " });
        text.push_str(word);
    }
    text.trim_start().to_owned()
}

#[test]
fn a_booted_machine_has_exactly_these_devices() {
    let expect = "\
/usr/bin/qemu-system-x86_64
-nodefaults
-no-user-config
-display none
-S
-machine q35,memory-backend=memory,usb=off,smbus=off,sata=off,hpet=off,vmport=off,smm=off,mem-merge=off,dump-guest-core=off
-accel tcg,tb-size=128
-cpu max
-smp 2
-m 512M
-object memory-backend-ram,id=memory,size=512M
-kernel /guest/vmlinuz
-initrd /guest/initrd
-append console=hvc0 quiet panic=-1
-action reboot=shutdown,shutdown=pause
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-chardev socket,id=control,fd={fd0},server=on,wait=off
-mon chardev=control,mode=control
-device virtio-serial-pci,id=serial,max_ports=2
-chardev ringbuf,id=console,size=65536
-device virtconsole,chardev=console
-chardev socket,id=agent,fd={fd1},server=on,wait=off
-device virtserialport,chardev=agent,name=monopod.agent
-device virtio-scsi-pci,id=scsi
-netdev hubport,id=net,hubid=0
-device virtio-net-pci,id=card,netdev=net,romfile=,mac=52:54:00:00:00:01
-object rng-builtin,id=random
-device virtio-rng-pci,rng=random
-device vmgenid,guid=auto";
    assert_eq!(shown(&line(SHAPE, Origin::Boot)), expect);
}

#[test]
fn a_template_and_its_copies_have_the_same_devices() {
    let devices = |line: Vec<String>| -> Vec<String> {
        line.windows(2)
            .filter(|pair| pair[0] == "-device" || pair[0] == "-machine")
            .map(|pair| pair[1].clone())
            .collect()
    };
    let made = devices(line(SHAPE, Origin::MakeTemplate));
    assert_eq!(made, devices(line(SHAPE, Origin::Restore)));
    assert_eq!(made, devices(line(SHAPE, Origin::Boot)));
}

#[test]
fn a_copy_reads_the_templates_memory_and_writes_none_of_it() {
    let line = shown(&line(SHAPE, Origin::Restore));
    assert!(line.contains("mem-path=/template/memory,share=off,readonly=on,rom=off"), "{line}");
    assert!(line.contains("-incoming defer"), "{line}");
    assert!(!line.contains("-kernel"), "{line}");
}

#[test]
fn kvm_gives_the_machines_own_processor() {
    let line = shown(&line(Shape { accelerator: Accelerator::Kvm, ..SHAPE }, Origin::Boot));
    assert!(line.contains("-add-fd fd={fd2},set=0\n-accel kvm,device=/dev/fdset/0\n-cpu host\n"), "{line}");
    assert!(line.contains("-netdev hubport,id=net,hubid=0"), "{line}");
}
