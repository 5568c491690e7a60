//! A file that is written part by part under a hidden name, one part behind the caller.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::{blocking, finish, publish, start};

/// The disk is made to write so often, or the end would have to wait for everything at once.
const SYNC_EVERY: usize = 64 << 20;

/// A file that has no name yet; removed when dropped.
pub struct Growing {
    path: PathBuf,
    hidden: Hidden,
    state: State,
}

/// The hidden file, gone with this value.
struct Hidden(PathBuf);

enum State {
    Resting(Output),
    Writing(JoinHandle<io::Result<Output>>),
    Broken,
}

struct Output {
    file: File,
    unsynced: usize,
}

impl Growing {
    pub(super) fn start(path: PathBuf) -> io::Result<Self> {
        let (file, hidden) = start(&path)?;
        Ok(Self { path, hidden: Hidden(hidden), state: State::Resting(Output { file, unsynced: 0 }) })
    }

    /// Waits until the part before is written, and begins with this one.
    pub async fn push(&mut self, part: Bytes) -> io::Result<()> {
        let mut output = self.rest().await?;
        self.state = State::Writing(tokio::task::spawn_blocking(move || {
            output.file.write_all(&part)?;
            output.unsynced += part.len();
            if output.unsynced >= SYNC_EVERY {
                output.file.sync_data()?;
                output.unsynced = 0;
            }
            Ok(output)
        }));
        Ok(())
    }

    /// Gives the file its name, durably. One that is there already is an error.
    pub async fn commit(mut self) -> io::Result<()> {
        let output = self.rest().await?;
        let Self { path, hidden, .. } = self;
        blocking(move || finish(&output.file, hidden.path(), &path, publish)).await
    }

    /// Removes it.
    pub async fn abort(mut self) {
        let _ = self.rest().await;
    }

    async fn rest(&mut self) -> io::Result<Output> {
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Resting(output) => Ok(output),
            State::Writing(task) => task.await.unwrap_or_else(|_| Err(broken())),
            State::Broken => Err(broken()),
        }
    }
}

fn broken() -> io::Error {
    io::Error::other("writing it was broken off")
}

impl Hidden {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // After a commit there is nothing under this name any more.
        let _ = fs::remove_file(&self.0);
    }
}
