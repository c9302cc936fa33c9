//! The disks of a VM: opened here, handed over open, and hung into its SCSI bus.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};

use monopod_vmm::{Disk, VmError};
use serde_json::{Value, json};

use super::Seat;
use crate::qmp::{Client, wait_for};

/// How many disks the bus can have.
const MOST: u32 = 255;

/// Before the serial, in the name of a device.
const PREFIX: &str = "disk-";

/// Most characters of a device's identification page.
const IDENTIFICATION: usize = 20;

/// A disk whose file has been opened.
#[derive(Debug)]
pub(crate) struct OpenDisk {
    disk: Disk,
    file: File,
}

/// Which disks a VM has, each with its place on the bus.
#[derive(Debug, Default)]
pub(super) struct Disks(BTreeMap<String, u32>);

impl OpenDisk {
    /// Opens the file of a disk; the VMM's user may not.
    pub(crate) fn open(disk: Disk) -> Result<Self, VmError> {
        disk.check()?;
        let file = OpenOptions::new().read(true).write(!disk.read_only).open(&disk.path);
        let file = file.map_err(VmError::host(format!("open disk {}", disk.path.display())))?;
        Ok(Self { disk, file })
    }
}

impl Disks {
    /// Asks QEMU, after an adoption: each device's place is a property of it.
    pub(super) async fn found(client: &Client) -> Result<Self, VmError> {
        let devices = client.command("qom-list", json!({"path": "/machine/peripheral"})).await?;
        let mut found = BTreeMap::new();
        for device in devices.as_array().into_iter().flatten() {
            let Some(name) = device.get("name").and_then(Value::as_str) else { continue };
            let Some(serial) = name.strip_prefix(PREFIX) else { continue };
            let property = json!({"path": format!("/machine/peripheral/{name}"), "property": "scsi-id"});
            let number = client.command("qom-get", property).await?;
            if let Some(number) = number.as_u64().and_then(|number| u32::try_from(number).ok()) {
                found.insert(serial.to_owned(), number);
            }
        }
        Ok(Self(found))
    }

    fn free(&self) -> Option<u32> {
        (0..MOST).find(|number| self.0.values().all(|taken| taken != number))
    }
}

/// QEMU's name for the contents of a disk.
fn node(number: u32) -> String {
    format!("node-{number}")
}

impl Seat {
    /// Adds a disk.
    pub(crate) async fn attach(&self, disk: &OpenDisk) -> Result<(), VmError> {
        let serial = &disk.disk.serial;
        let mut disks = self.disks.lock().await;
        let invalid = |what: String| VmError::InvalidSpec { what };
        if disks.0.contains_key(serial) {
            return Err(invalid(format!("two disks with serial {serial}")));
        }
        let number = disks.free().ok_or_else(|| invalid(format!("more than {MOST} disks")))?;
        let client = self.client()?;
        let set = json!({"fdset-id": set(number)});
        // Written at once; QEMU carries them out one after the other.
        let (handed, added) =
            tokio::join!(client.command_with_file("add-fd", set.clone(), &disk.file), add(client, &disk.disk, number),);
        if let Err(error) = handed.and(added) {
            // What had been added goes again; a refusal of that would hide the cause.
            drop(client.command("blockdev-del", json!({"node-name": node(number)})).await);
            drop(client.command("remove-fd", set).await);
            return Err(error);
        }
        disks.0.insert(serial.clone(), number);
        Ok(())
    }

    /// Takes a disk away.
    pub(crate) async fn detach(&self, serial: &str) -> Result<(), VmError> {
        let mut disks = self.disks.lock().await;
        let number = *disks.0.get(serial).ok_or_else(|| VmError::NoDisk { serial: serial.to_owned() })?;
        let client = self.client()?;
        let mut events = client.events();
        let device = format!("{PREFIX}{serial}");
        client.command("device_del", json!({"id": device})).await?;
        let gone = wait_for(&mut events, |name, data| {
            name == "DEVICE_DELETED" && data.get("device").and_then(Value::as_str) == Some(device.as_str())
        });
        let limit = self.config.limits.detach;
        let late = |_| VmError::TimedOut { what: format!("the guest's consent to the end of disk {serial}"), limit };
        tokio::time::timeout(limit, gone).await.map_err(late)??;
        client.command("blockdev-del", json!({"node-name": node(number)})).await?;
        client.command("remove-fd", json!({"fdset-id": set(number)})).await?;
        disks.0.remove(serial);
        Ok(())
    }
}

/// Number of the set of open files that belongs to a disk; the first is the KVM device's.
fn set(number: u32) -> u32 {
    number + 1
}

async fn add(client: &Client, disk: &Disk, number: u32) -> Result<(), VmError> {
    let Disk { serial, path: _, read_only } = disk;
    let file = json!({"driver": "file", "filename": format!("/dev/fdset/{}", set(number)), "read-only": read_only});
    let contents = json!({
        "driver": "raw", "node-name": node(number), "read-only": read_only, "discard": "unmap", "file": file,
    });
    // The identification is shorter than a serial may be.
    let short: String = serial.chars().take(IDENTIFICATION).collect();
    // A host's disk that is full is told to the guest. Without this word the whole guest would stand still instead, its
    // agent with it.
    let device = json!({
        "driver": "scsi-hd", "id": format!("{PREFIX}{serial}"), "drive": node(number), "bus": "scsi.0",
        "scsi-id": number, "lun": 0, "serial": serial, "device_id": short, "werror": "report",
    });
    let (contents, device) =
        tokio::join!(client.command("blockdev-add", contents), client.command("device_add", device));
    contents.and(device).map(drop)
}
