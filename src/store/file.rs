//! The `file` store: one age-sealed file per version in a folder of this machine, old versions kept.
//!
//! `<folder>/00000001.age` is a version, `00000001.json` its facts. The facts are renamed into place
//! first and the version last, so a version that can be seen has facts.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use sha2::{Digest as _, Sha256};

use super::{Current, Error as StoreError, Facts, Head, Local, Note, Place, Room, Store, Version};
use crate::config::{AgeRecipient, FileStore, Template};
use crate::error::{Failure, Fault};
use crate::retry::Deadline;
use crate::seal::{Envelope, Sealed, seal};

/// A folder that keeps sealed identities.
pub struct Folder {
    name: String,
    path: Template,
    recipients: Vec<AgeRecipient>,
}

/// Why the folder did not take the identities.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refuses.
    #[error("{doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    /// The highest number is taken.
    #[error("{} has no number left for another version", .0.display())]
    Full(PathBuf),
    /// Something that is no plain file stands where a version should.
    #[error("{} is not a plain file of a version's size", .0.display())]
    NotAFile(PathBuf),
    /// Another process is writing there.
    #[error("another idkeep is writing to {}", .0.display())]
    Locked(PathBuf),
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Io { doing, source, .. } => match source.kind() {
                ErrorKind::PermissionDenied | ErrorKind::NotADirectory | ErrorKind::ReadOnlyFilesystem => Fault::Config,
                ErrorKind::NotFound if *doing == "creating the folder" => Fault::Config,
                _ => Fault::Transient,
            },
            Self::Full(_) | Self::NotAFile(_) => Fault::Config,
            Self::Locked(_) => Fault::Transient,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, .. } => match source.kind() {
                ErrorKind::PermissionDenied | ErrorKind::NotADirectory | ErrorKind::ReadOnlyFilesystem => {
                    Some("let this user write there, or change `path`".into())
                }
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                    Some("make room; every version that was there still is".into())
                }
                ErrorKind::NotFound => Some("does the folder above it exist, and may this user write there?".into()),
                _ => None,
            },
            Self::Full(_) | Self::NotAFile(_) => Some("who put it there? take it out of the folder".into()),
            Self::Locked(_) => Some("is a pass that hangs still running? the lock goes with its process".into()),
        }
    }
}

impl FileStore {
    /// The folder of one node: the path itself where it names the node, else a folder in it.
    #[must_use]
    pub fn folder(&self, place: Place<'_>) -> PathBuf {
        folder(&self.path, place)
    }
}

fn folder(path: &Template, place: Place<'_>) -> PathBuf {
    let filled = PathBuf::from(path.fill(place.node, place.network));
    if path.as_str().contains("{node}") { filled } else { filled.join(place.node) }
}

impl Folder {
    /// The store of this configuration.
    #[must_use]
    pub fn new(name: &str, config: &FileStore) -> Self {
        Self { name: name.to_owned(), path: config.path.clone(), recipients: config.recipients.clone() }
    }

    fn read_head(&self, place: Place<'_>) -> Result<Head, Error> {
        let folder = folder(&self.path, place);
        let mut head = Head { now: Timestamp::now(), ..Head::default() };
        let numbers = match versions(&folder) {
            Ok(numbers) => numbers,
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(head),
            Err(error) => return Err(error),
        };
        for number in &numbers {
            head.created_at.push(created_at(&file(&folder, *number, "age"))?);
        }
        let Some(newest) = numbers.last() else { return Ok(head) };
        let path = file(&folder, *newest, "age");
        let map = facts(&file(&folder, *newest, "json"))?;
        let is_whole = match map.get(SHA256) {
            Some(recorded) => *recorded == sha256(&read(&path)?),
            None => true,
        };
        head.facts = Facts::from_map(&map);
        // Facts can be lost with one file; the older ones still say whose folder this is.
        for number in numbers.iter().rev().skip(1) {
            if head.participant().is_some() {
                break;
            }
            let older = Facts::from_map(&facts(&file(&folder, *number, "json"))?);
            head.older_participant = older.map(|older| older.participant_id).filter(|id| !id.is_empty());
        }
        head.current = Some(Current {
            version: Version(newest.to_string()),
            created_at: head.created_at.last().copied().unwrap_or(head.now),
            is_alive: is_whole,
        });
        Ok(head)
    }

    fn write(
        &self,
        place: Place<'_>,
        envelope: &Envelope<'_>,
        new: &Facts,
        head: &Head,
    ) -> Result<Version, StoreError> {
        let sealed = match envelope {
            Envelope::Plain(identities) => seal(identities, &self.recipients)?,
            Envelope::Sealed(sealed) => sealed.clone(),
        };
        let folder = folder(&self.path, place);
        create_folder(&folder)?;
        let _lock = lock(&folder)?;
        let newest = versions(&folder)?.last().copied();
        let expected = head.version().map(|version| version.0.clone());
        if newest.map(|number| number.to_string()) != expected {
            return Err(StoreError::Conflict);
        }
        let number = newest.unwrap_or(0) + 1;
        if number > HIGHEST {
            return Err(Error::Full(folder).into());
        }
        let facts = new.of_version(&number.to_string());
        add(&folder, number, &sealed, &facts)?;
        Ok(Version(number.to_string()))
    }
}

impl Store for Folder {
    fn name(&self) -> &str {
        &self.name
    }

    fn room(&self) -> Room {
        Room::UNLIMITED
    }

    fn head<'a>(&'a self, place: Place<'a>, _: Deadline) -> Local<'a, Result<Head, StoreError>> {
        Box::pin(async move { Ok(self.read_head(place)?) })
    }

    fn recipients(&self) -> &[AgeRecipient] {
        &self.recipients
    }

    fn put<'a>(
        &'a self,
        place: Place<'a>,
        envelope: &'a Envelope<'a>,
        facts: &'a Facts,
        head: &'a Head,
        _: Deadline,
    ) -> Local<'a, Result<Version, StoreError>> {
        Box::pin(async move { self.write(place, envelope, facts, head) })
    }

    fn refresh<'a>(
        &'a self,
        place: Place<'a>,
        facts: &'a Facts,
        _: &'a Head,
        _: Deadline,
    ) -> Local<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let folder = folder(&self.path, place);
            let _lock = lock(&folder)?;
            let Ok(number) = facts.stored_version.parse() else { return Ok(()) };
            let path = file(&folder, number, "json");
            let recorded = self::facts(&path)?.remove(SHA256).unwrap_or_default();
            replace(&path, &document(facts, recorded), RenameFlags::empty())?;
            Ok(())
        })
    }

    fn probe<'a>(&'a self, place: Place<'a>, _: Deadline) -> Local<'a, Result<Vec<Note>, StoreError>> {
        Box::pin(async move {
            let folder = folder(&self.path, place);
            let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(&folder);
            let failed = |source: std::io::Error| Error::Io { doing: "writing to", path: existing.into(), source };
            if !existing.is_dir() {
                return Err(failed(ErrorKind::NotADirectory.into()).into());
            }
            rustix::fs::access(existing, rustix::fs::Access::WRITE_OK).map_err(|errno| failed(errno.into()))?;
            Ok(vec![Note::Fine(format!("{} can be written", existing.display()))])
        })
    }

    fn close(&self) -> Local<'_, ()> {
        Box::pin(async {})
    }
}

/// The highest version that a file's name has room for.
const HIGHEST: u64 = 99_999_999;

/// Key of the sealed file's own digest among the facts.
const SHA256: &str = "sealed_sha256";

fn add(folder: &Path, number: u64, sealed: &Sealed, facts: &Facts) -> Result<(), Error> {
    replace(&file(folder, number, "json"), &document(facts, sha256(sealed.bytes())), RenameFlags::empty())?;
    // A version is never replaced, whatever the numbers say.
    replace(&file(folder, number, "age"), sealed.bytes(), RenameFlags::NOREPLACE)
}

fn document(facts: &Facts, sealed_sha256: String) -> Vec<u8> {
    let mut map = facts.to_map();
    map.insert(SHA256.into(), sealed_sha256);
    let mut text = serde_json::to_vec_pretty(&map).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Writes beside it, makes it durable, renames it into place: there is never half a file.
fn replace(path: &Path, bytes: &[u8], flags: RenameFlags) -> Result<(), Error> {
    let temporary = path.with_added_extension("new");
    let _ = fs::remove_file(&temporary);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        renameat_with(CWD, &temporary, CWD, path, flags)?;
        File::open(path.parent().unwrap_or(path))?.sync_all()
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        Error::Io { doing: "writing", path: path.into(), source }
    })
}

/// Creates the folder for its owner only.
pub fn create_folder(folder: &Path) -> Result<(), Error> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(|source| Error::Io { doing: "creating the folder", path: folder.into(), source })
}

/// One writer at a time; the operating system drops the lock with its process.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(".lock");
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(CAREFUL).open(&path);
    let file = file.map_err(|source| Error::Io { doing: "opening", path, source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(Error::Locked(folder.into())),
    }
}

/// The versions there are, lowest first.
fn versions(folder: &Path) -> Result<Vec<u64>, Error> {
    let failed = |source| Error::Io { doing: "reading the folder", path: folder.into(), source };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".age")).and_then(|stem| stem.parse::<u64>().ok());
        // Only what we would have named so is ours: eight digits.
        numbers.extend(number.filter(|number| *number <= HIGHEST && *name == *format!("{number:08}.age")));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn file(folder: &Path, number: u64, extension: &str) -> PathBuf {
    folder.join(format!("{number:08}.{extension}"))
}

fn created_at(path: &Path) -> Result<Timestamp, Error> {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    let modified = modified.map_err(|source| Error::Io { doing: "reading", path: path.into(), source })?;
    Ok(Timestamp::try_from(modified).unwrap_or_default())
}

fn facts(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    match read(path) {
        // What cannot be read as facts says nothing, and what follows decides whether that is a danger.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

/// Reads a plain file of a version's size: whoever may write into the folder must not make us wait or swell.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Io { doing: "reading", path: path.into(), source };
    let mut file = OpenOptions::new().read(true).custom_flags(CAREFUL).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.len() > 4 * crate::identity::MAX_BYTES as u64 {
        return Err(Error::NotAFile(path.into()));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Follows no link and waits for nobody at a pipe.
const CAREFUL: i32 = (OFlags::NOFOLLOW.bits() | OFlags::NONBLOCK.bits()).cast_signed();

fn sha256(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(bytes))
}
