//! A folder of this machine as a repository: files of mode 0600, durable when a call returns, never half there.
//!
//! Files are written under a hidden name and then given their own; hidden files are in no list.

mod growing;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::Object;
pub use growing::Growing;

/// Follows no link and waits for nobody at a pipe.
const CAREFUL: i32 = (OFlags::NOFOLLOW.bits() | OFlags::NONBLOCK.bits()).cast_signed();

/// How much of a file is read at once.
const CHUNK: usize = 1 << 20;

/// The folder.
#[derive(Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The folder at this path; it is created, for its owner alone, by whoever writes first.
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The file of a key.
    pub fn path(&self, key: &str) -> io::Result<PathBuf> {
        let key = Path::new(key);
        let is_plain = key.components().all(|part| matches!(part, Component::Normal(_)));
        if is_plain { Ok(self.root.join(key)) } else { Err(ErrorKind::InvalidInput.into()) }
    }

    /// False where it is there already.
    pub async fn create(&self, key: &str, bytes: Bytes) -> io::Result<bool> {
        let path = self.path(key)?;
        blocking(move || match write(&path, &bytes, publish) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            result => result.map(|()| true),
        })
        .await
    }

    pub async fn replace(&self, key: &str, bytes: Bytes) -> io::Result<()> {
        let path = self.path(key)?;
        blocking(move || write(&path, &bytes, |from, to| fs::rename(from, to))).await
    }

    /// Up to one byte more than `cap`; nothing where there is no such file.
    pub async fn read(&self, key: &str, cap: usize) -> io::Result<Option<Bytes>> {
        let path = self.path(key)?;
        blocking(move || {
            let Some((file, _)) = present(open(&path))? else { return Ok(None) };
            let mut bytes = Vec::new();
            file.take(cap as u64 + 1).read_to_end(&mut bytes)?;
            Ok(Some(bytes.into()))
        })
        .await
    }

    pub async fn size(&self, key: &str) -> io::Result<Option<u64>> {
        let path = self.path(key)?;
        blocking(move || Ok(present(open(&path))?.map(|(_, size)| size))).await
    }

    /// The next bytes of a file from `offset` on; none at its end.
    pub async fn chunk(&self, key: &str, offset: u64) -> io::Result<Bytes> {
        let path = self.path(key)?;
        blocking(move || {
            let (mut file, _) = open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = Vec::with_capacity(CHUNK);
            file.take(CHUNK as u64).read_to_end(&mut bytes)?;
            Ok(bytes.into())
        })
        .await
    }

    /// Every file below, named from `folder` on.
    pub async fn list(&self, folder: &str) -> io::Result<Vec<Object>> {
        let root = self.path(folder)?;
        blocking(move || {
            let mut found = Vec::new();
            let mut open = vec![root.clone()];
            while let Some(folder) = open.pop() {
                for entry in entries(&folder)? {
                    // What vanishes while it is looked at is not there.
                    let Some(metadata) = present(entry.metadata())? else { continue };
                    if metadata.is_dir() {
                        open.push(entry.path());
                    } else if metadata.is_file() {
                        let path = entry.path();
                        let Some(name) = path.strip_prefix(&root).ok().and_then(Path::to_str) else { continue };
                        let modified = Timestamp::try_from(metadata.modified()?).unwrap_or_default();
                        found.push(Object { name: name.to_owned(), bytes: metadata.len(), modified, e_tag: None });
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    pub async fn folders(&self, folder: &str) -> io::Result<Vec<String>> {
        let path = self.path(folder)?;
        blocking(move || {
            let folders = entries(&path)?.into_iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            Ok(folders.filter_map(|entry| entry.file_name().into_string().ok()).collect())
        })
        .await
    }

    /// Removes a file, and the folders that are empty without it.
    pub async fn remove(&self, key: &str) -> io::Result<()> {
        let (path, root) = (self.path(key)?, self.root.clone());
        blocking(move || {
            if present(fs::remove_file(&path))?.is_none() {
                return Ok(());
            }
            let mut folder = parent(&path);
            while folder != root && fs::remove_dir(folder).is_ok() {
                folder = parent(folder);
            }
            if present(sync_folder(folder))?.is_none() { sync_folder(&root) } else { Ok(()) }
        })
        .await
    }

    /// Removes what a writer that died has left half written in a folder.
    pub async fn sweep(&self, folder: &str) -> io::Result<()> {
        let path = self.path(folder)?;
        blocking(move || {
            for entry in present(fs::read_dir(&path))?.into_iter().flatten() {
                let entry = entry?;
                if is_half_written(&entry.file_name()) {
                    present(fs::remove_file(entry.path()))?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Locks a file for as long as it is open, and says in it who did; nothing where another process has it.
    pub async fn lock(&self, key: &str, record: Bytes) -> io::Result<Option<File>> {
        let path = self.path(key)?;
        blocking(move || {
            create_folder(parent(&path))?;
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(CAREFUL);
            let mut file = options.open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            file.set_len(0)?;
            file.write_all(&record)?;
            Ok(Some(file))
        })
        .await
    }

    /// Whether the open file is still the one of that key.
    pub fn is_still(&self, key: &str, file: &File) -> io::Result<bool> {
        let (open, there) = (file.metadata()?, present(fs::symlink_metadata(self.path(key)?))?);
        Ok(there.is_some_and(|there| there.ino() == open.ino() && there.dev() == open.dev()))
    }

    /// A file that grows under a hidden name.
    pub async fn grow(&self, key: &str) -> io::Result<Growing> {
        let path = self.path(key)?;
        blocking(move || Growing::start(path)).await
    }
}

/// The folder, or the one above it, in which others may put, move or remove what a repository here consists of.
pub fn open_to_others(root: &Path) -> Option<PathBuf> {
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    // Where it really lies, as far as it is there: links on the way may lead elsewhere.
    let real = root.ancestors().find_map(|path| fs::canonicalize(path).ok())?;
    let is_open = |path: &Path| {
        let mode = fs::metadata(path).map_or(0, |metadata| metadata.mode());
        // In a sticky folder others cannot touch what is not theirs, but they can make what is not there yet.
        mode & OTHERS_WRITE != 0 && (mode & STICKY == 0 || path == real)
    };
    real.ancestors().find(|path| is_open(path)).map(Path::to_owned)
}

/// Runs on a thread that may wait for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(io::Error::other("the work on it was broken off")))
}

fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// What is in a folder, hidden things left out; nothing where there is no folder.
fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    let Some(entries) = present(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let entries = entries.collect::<io::Result<Vec<_>>>()?;
    Ok(entries.into_iter().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b".")).collect())
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().read(true).custom_flags(CAREFUL).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(ErrorKind::InvalidInput.into()) }
}

/// Creates a folder and those above it for their owner alone, all durable.
fn create_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.exists()).collect();
    for path in missing.iter().rev() {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            result => result?,
        }
        sync_folder(parent(path))?;
    }
    if folder.is_dir() { Ok(()) } else { Err(ErrorKind::NotADirectory.into()) }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

const NEW: &str = ".new";

/// A new file under a hidden name of its own, in a folder that exists.
fn start(path: &Path) -> io::Result<(File, PathBuf)> {
    let name = path.file_name().and_then(OsStr::to_str).ok_or(ErrorKind::InvalidInput)?;
    let hidden = path.with_file_name(format!(".{name}.{:016x}{NEW}", fastrand::u64(..)));
    let mut tries = 0;
    loop {
        create_folder(parent(path))?;
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&hidden) {
            // Whoever removes the last file of a folder removes the folder too.
            Err(error) if error.kind() == ErrorKind::NotFound && tries < 8 => tries += 1,
            result => return Ok((result?, hidden)),
        }
    }
}

fn is_half_written(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(NEW))
}

/// Writes beside it, makes it durable, gives it its name: there is never half a file.
fn write(path: &Path, bytes: &[u8], name: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    let (mut file, hidden) = start(path)?;
    let result = file.write_all(bytes).and_then(|()| finish(&file, &hidden, path, name));
    if result.is_err() {
        let _ = fs::remove_file(&hidden);
    }
    result
}

fn finish(
    file: &File,
    hidden: &Path,
    path: &Path,
    name: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    file.sync_all()?;
    name(hidden, path)?;
    sync_folder(parent(path))
}

/// Gives a file its name unless somebody has it.
fn publish(hidden: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, hidden, CWD, path, RenameFlags::NOREPLACE) {
        // NFS and others know no such rename, but they know links.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(hidden, path)?;
            fs::remove_file(hidden)
        }
        result => Ok(result?),
    }
}
