//! An archive as `pg_dump` writes it in its custom format, walked from its first byte to its last.
//!
//! Format 1.14 to 1.16 (PostgreSQL 12 to 18), uncompressed, in memory that does not grow with what the archive claims.

mod scan;

use std::collections::HashSet;
use std::io::{self, Read};

use scan::Scan;

/// Entries with data that are kept in mind while their data is still to come; a database of Canton has some hundreds.
const MAX_DATA_ENTRIES: usize = 1_000_000;

/// The format's own numbers: its kind, an entry without data, and the two kinds of blocks.
const CUSTOM: u8 = 1;
const NO_DATA: u8 = 3;
const DATA: u8 = 1;
const LARGE_OBJECTS: u8 = 3;

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The format's version (`1.14`).
    pub format: String,
    /// The server's version as `pg_dump` wrote it down.
    pub server_version: String,
    /// The version of `pg_dump` itself.
    pub pg_dump_version: String,
    /// Entries of the table of contents.
    pub entries: u64,
    /// Those whose data is in the archive.
    pub entries_with_data: u64,
    /// Large objects.
    pub large_objects: u64,
    /// The size of the archive.
    pub bytes: u64,
}

/// Why an archive is not whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What it is read from fails: not decrypted, not decompressed, not there.
    #[error("reading the archive at byte {at}")]
    Read { at: u64, source: io::Error },
    /// Another kind of file.
    #[error("not an archive in pg_dump's custom format")]
    NotAnArchive,
    /// A version that is not known here.
    #[error("format {major}.{minor}, which this idkeep does not know")]
    Version { major: u8, minor: u8 },
    /// `pg_dump` compressed it itself, which idkeep never lets it.
    #[error("compressed by pg_dump itself, so that the data inside cannot be looked at")]
    Compressed,
    /// It ends early.
    #[error("the archive ends at byte {at}, in the middle of {inside}")]
    Truncated { at: u64, inside: &'static str },
    /// It is not what the format says.
    #[error("at byte {at}: {what}")]
    Malformed { at: u64, what: &'static str },
    /// Data is missing that the table of contents names.
    #[error("the data of {0} entries of the table of contents is missing")]
    Missing(usize),
}

/// Walks an archive to its end.
pub fn walk(archive: impl Read) -> Result<Contents, Error> {
    let mut scan = Scan::new(archive);
    let (mut contents, minor) = header(&mut scan)?;
    let mut promised = entries(&mut scan, minor, &mut contents)?;
    contents.entries_with_data = promised.len() as u64;
    blocks(&mut scan, &mut promised, &mut contents)?;
    if !promised.is_empty() {
        return Err(Error::Missing(promised.len()));
    }
    contents.bytes = scan.at();
    Ok(contents)
}

fn header<R: Read>(scan: &mut Scan<R>) -> Result<(Contents, u8), Error> {
    scan.enter("its header");
    for expected in b"PGDMP" {
        match scan.byte() {
            Ok(byte) if byte == *expected => {}
            Ok(_) | Err(Error::Truncated { .. }) => return Err(Error::NotAnArchive),
            Err(error) => return Err(error),
        }
    }
    let (major, minor, _revision) = (scan.byte()?, scan.byte()?, scan.byte()?);
    if major != 1 || !(14..=16).contains(&minor) {
        return Err(Error::Version { major, minor });
    }
    if scan.byte()? != 4 || scan.byte()? != 8 {
        return Err(scan.malformed("integers of an unusual size"));
    }
    if scan.byte()? != CUSTOM {
        return Err(Error::NotAnArchive);
    }
    // Until 1.14 a level of zlib, since then an algorithm.
    let compression = if minor == 14 { scan.int()? } else { i64::from(scan.byte()?) };
    if compression != 0 {
        return Err(Error::Compressed);
    }
    for _part_of_its_time in 0..7 {
        scan.int()?;
    }
    scan.skip_text()?;
    let contents = Contents {
        format: format!("{major}.{minor}"),
        server_version: scan.short_text()?,
        pg_dump_version: scan.short_text()?,
        entries: 0,
        entries_with_data: 0,
        large_objects: 0,
        bytes: 0,
    };
    Ok((contents, minor))
}

/// Reads the table of contents; the ids of the entries whose data has to follow.
fn entries<R: Read>(scan: &mut Scan<R>, minor: u8, contents: &mut Contents) -> Result<HashSet<i64>, Error> {
    scan.enter("its table of contents");
    let count = scan.length()?.unwrap_or(0);
    let mut promised = HashSet::new();
    for _ in 0..count {
        let id = scan.int()?;
        if id <= 0 {
            return Err(scan.malformed("an entry without an id"));
        }
        let has_data = scan.int()? != 0;
        // Two object ids, the tag, what it is.
        scan.skip_texts(4)?;
        let _section = scan.int()?;
        // How it is made, dropped and copied; its schema, tablespace and access method.
        scan.skip_texts(6)?;
        if minor >= 16 {
            let _kind_of_relation = scan.int()?;
        }
        // Its owner, and whether it has the object ids of old.
        scan.skip_texts(2)?;
        while scan.skip_text()?.is_some() {}
        let position = scan.byte()?;
        scan.skip(8)?;
        if !(1..=NO_DATA).contains(&position) || has_data == (position == NO_DATA) {
            return Err(scan.malformed("an entry that contradicts itself about its data"));
        }
        if has_data && !promised.insert(id) {
            return Err(scan.malformed("two entries with one id"));
        }
        if promised.len() > MAX_DATA_ENTRIES {
            return Err(scan.malformed("more than a million entries with data"));
        }
        contents.entries += 1;
    }
    Ok(promised)
}

/// Reads blocks of data to the archive's end, and strikes out each entry whose data came whole.
fn blocks<R: Read>(scan: &mut Scan<R>, promised: &mut HashSet<i64>, contents: &mut Contents) -> Result<(), Error> {
    scan.enter("a block of data");
    while let Some(kind) = scan.byte_or_end()? {
        let id = scan.int()?;
        match kind {
            DATA => chunks(scan)?,
            LARGE_OBJECTS => {
                while scan.int()? != 0 {
                    chunks(scan)?;
                    contents.large_objects += 1;
                }
            }
            _ => return Err(scan.malformed("a block of an unknown kind")),
        }
        if !promised.remove(&id) {
            return Err(scan.malformed("a block that no entry announces, or that was there before"));
        }
    }
    Ok(())
}

fn chunks<R: Read>(scan: &mut Scan<R>) -> Result<(), Error> {
    while let Some(length @ 1..) = scan.length()? {
        scan.skip(length)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `pg_dump` 15, 16 and 18 wrote of one small database, to a pipe and (`15-file`) to a file.
    const SAMPLES: [(&str, &[u8]); 4] = [
        ("15", include_bytes!("archive/samples/15.dump")),
        ("15-file", include_bytes!("archive/samples/15-file.dump")),
        ("16", include_bytes!("archive/samples/16.dump")),
        ("18", include_bytes!("archive/samples/18.dump")),
    ];

    #[test]
    fn archives_of_every_format_are_walked_to_their_end() {
        for (name, bytes) in SAMPLES {
            let contents = walk(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            let format = match &name[..2] {
                "15" => "1.14",
                "16" => "1.15",
                _ => "1.16",
            };
            assert_eq!(contents.format, format);
            assert_eq!(contents.bytes, bytes.len() as u64);
            assert!(contents.server_version.starts_with("15."), "{}", contents.server_version);
            assert!(contents.pg_dump_version.starts_with(&name[..2]), "{}", contents.pg_dump_version);
            // Four tables, a sequence, the large objects; by 18 not in one block for all.
            assert_eq!(contents.large_objects, 2, "{name}");
            assert!(contents.entries_with_data >= 5, "{name}: {contents:?}");
            assert!(contents.entries > contents.entries_with_data, "{name}: {contents:?}");
        }
    }

    #[test]
    fn an_archive_cut_anywhere_is_not_whole() {
        for (name, bytes) in SAMPLES {
            for length in 0..bytes.len() {
                assert!(walk(&bytes[..length]).is_err(), "{name} cut at {length}");
            }
        }
    }

    #[test]
    fn an_archive_with_more_behind_it_is_not_one() {
        let (_, bytes) = SAMPLES[0];
        for more in [&b"\0"[..], b"\x01", &bytes[bytes.len() - 60..], bytes] {
            assert!(walk(&[bytes, more].concat()[..]).is_err(), "{more:?}");
        }
    }

    #[test]
    fn what_is_not_such_an_archive_is_named() {
        assert!(matches!(walk(&b""[..]), Err(Error::NotAnArchive)));
        assert!(matches!(walk(&b"--\n-- PostgreSQL database dump\n"[..]), Err(Error::NotAnArchive)));
        let change = |at: usize, byte: u8| {
            let mut bytes = SAMPLES[2].1.to_vec();
            bytes[at] = byte;
            walk(&bytes[..]).unwrap_err()
        };
        assert!(matches!(change(6, 17), Error::Version { major: 1, minor: 17 }));
        assert!(matches!(change(11, 1), Error::Compressed));
        assert!(matches!(change(10, 3), Error::NotAnArchive));
    }

    #[test]
    fn a_forged_archive_cannot_make_it_allocate() {
        let (_, bytes) = SAMPLES[2];
        // The length of the database's name, just behind the time, and of everything else in turn.
        for at in (12..bytes.len() - 5).step_by(3) {
            let mut bytes = bytes.to_vec();
            bytes[at..at + 5].copy_from_slice(&[0, 0xff, 0xff, 0xff, 0x7f]);
            let _ = walk(&bytes[..]);
        }
        let endless = bytes[..bytes.len() / 2].chain(io::repeat(0).take(1 << 26));
        assert!(walk(endless).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_make_it_panic(sample in 0..4_usize, changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
            let mut bytes = SAMPLES[sample].1.to_vec();
            for (at, byte) in changes {
                let at = usize::from(at) % bytes.len();
                bytes[at] = byte;
            }
            let _ = walk(&bytes[..]);
        }
    }
}
