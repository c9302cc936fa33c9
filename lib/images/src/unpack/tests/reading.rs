//! The reader of archives beside the usual one, which wrote them.

use std::io::Cursor;

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::*;
use crate::unpack::archive::{Archive, Entry, Kind, Time};

fn read_all(tar: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, LayerError> {
    let limits = Limits::default();
    let mut archive = Archive::new(tar, &limits);
    let mut entries = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        let mut data = Vec::new();
        let mut buffer = [0; 100];
        loop {
            match archive.read_data(&mut buffer)? {
                0 => break,
                count => data.extend_from_slice(&buffer[..count]),
            }
        }
        entries.push((entry, data));
    }
    Ok(entries)
}

proptest! {
    #[test]
    fn what_the_usual_crate_writes_is_read(
        files in proptest::collection::vec(
            ("[a-z]{1,40}(/[a-z]{1,80}){0,4}", proptest::collection::vec(any::<u8>(), 0..1500), 0_u32..0o10000,
             0_u64..1 << 31, 0_u64..1 << 40, any::<bool>()),
            0..8,
        ),
    ) {
        let mut builder = Builder::new(Vec::new());
        for (path, data, mode, owner, time, is_ustar) in &files {
            let mut header = if *is_ustar { Header::new_ustar() } else { Header::new_gnu() };
            header.set_entry_type(EntryType::Regular);
            header.set_mode(*mode);
            header.set_uid(*owner);
            header.set_gid(owner / 2);
            // What ustar's field holds.
            header.set_mtime(if *is_ustar { time % (1 << 33) } else { *time });
            header.set_size(data.len() as u64);
            if header.set_path(path).is_ok() {
                header.set_cksum();
                builder.append(&header, Cursor::new(data)).unwrap();
            } else {
                builder.append_data(&mut header, path, Cursor::new(data)).unwrap();
            }
        }
        let tar = builder.into_inner().unwrap();
        let entries = read_all(&tar).unwrap();
        prop_assert_eq!(entries.len(), files.len());
        for ((entry, read), (path, data, mode, owner, time, is_ustar)) in entries.iter().zip(&files) {
            let seconds = if *is_ustar { time % (1 << 33) } else { *time };
            let expected = Entry {
                path: path.as_bytes().to_vec(),
                size: data.len() as u64,
                mode: *mode,
                uid: u32::try_from(*owner).unwrap(),
                gid: u32::try_from(owner / 2).unwrap(),
                modified: Time { seconds: i64::try_from(seconds).unwrap(), nanos: 0 },
                ..Entry::default()
            };
            prop_assert_eq!((entry, read), (&expected, data));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = read_all(&bytes);
    }

    #[test]
    fn no_damage_makes_it_panic(at in 0_usize..3000, value: u8) {
        let records: [(&str, &[u8]); 2] = [("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"b")];
        let mut tar = layer().records(&records).file("a", 0o644, &[1; 600]).symlink("b", &"c".repeat(150)).into_tar();
        if let Some(byte) = tar.get_mut(at) {
            *byte = value;
        }
        let _ = read_all(&tar);
    }
}

#[test]
fn records_go_before_the_header() {
    let records: [(&str, &[u8]); 6] = [
        ("path", b"long/path"),
        ("uid", b"4000000000"),
        ("gid", b"7"),
        ("mtime", b"1600000000.25"),
        ("size", b"3"),
        ("SCHILY.xattr.user.a", b"b"),
    ];
    let tar = layer().records(&records).file("short", 0o644, b"abc").file("next", 0o644, b"").into_tar();
    let entries = read_all(&tar).unwrap();
    let first = &entries[0].0;
    assert_eq!((first.path.as_slice(), first.uid, first.gid), (b"long/path".as_slice(), 4_000_000_000, 7));
    assert_eq!(first.modified, Time { seconds: 1_600_000_000, nanos: 250_000_000 });
    assert_eq!(first.attributes, [(b"user.a".to_vec(), b"b".to_vec())]);
    assert_eq!(entries[0].1, b"abc");
    let next = &entries[1].0;
    assert_eq!((next.path.as_slice(), next.uid, next.attributes.len()), (b"next".as_slice(), 0, 0));
}

#[test]
fn times_before_1970_are_read() {
    for (text, seconds, nanos) in
        [("-1", -1, 0), ("-1.25", -2, 750_000_000), ("-0.5", -1, 500_000_000), ("1.1234567899", 1, 123_456_789)]
    {
        let tar = layer().records(&[("mtime", text.as_bytes())]).file("a", 0o644, b"").into_tar();
        assert_eq!(read_all(&tar).unwrap()[0].0.modified, Time { seconds, nanos }, "{text}");
    }
}

#[test]
fn an_old_archives_folder_is_one_by_its_slash() {
    let tar = layer().entry(EntryType::new(0), "old/", "", 0o755, (0, 0), b"").into_tar();
    assert_eq!(read_all(&tar).unwrap()[0].0.kind, Kind::Folder);
}
