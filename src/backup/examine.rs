//! Examination: reads every stored byte of a set again, and with a key also what is inside.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::manifest::Dump;
use super::repository::{self, Repository};
use super::verify::{self, Contents, Found};

/// Chunks that wait for the thread that opens them.
const AHEAD: usize = 4;

/// Reads an object of the set to its end; `None` where it is not there.
pub async fn read(
    repository: &Rc<Repository>,
    folder: &str,
    dump: &Dump,
    key: Option<&Path>,
) -> Result<Option<Found>, repository::Error> {
    let file = format!("{folder}/{}", dump.file);
    if repository.size(&file).await?.is_none() {
        return Ok(None);
    }
    let mut chunks = repository.stream(&file).await?;
    let mut opening = key.map(|key| Opening::start(key, dump));
    let mut digest = Sha256::new();
    let mut bytes = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        digest.update(&chunk);
        bytes += chunk.len() as u64;
        if let Some(opening) = &mut opening {
            opening.give(chunk).await;
        }
    }
    let contents = match opening {
        Some(opening) => Some(opening.finish().await),
        None => None,
    };
    Ok(Some(Found { bytes, sha256: base16ct::lower::encode_string(&digest.finalize()), contents }))
}

/// A thread that decrypts, decompresses and walks what it is given.
struct Opening {
    chunks: mpsc::Sender<Bytes>,
    end: oneshot::Receiver<Result<Contents, verify::Error>>,
}

impl Opening {
    fn start(key: &Path, dump: &Dump) -> Self {
        let (chunks, receiving) = mpsc::channel(AHEAD);
        let (ending, end) = oneshot::channel();
        let key = (!dump.recipients.is_empty()).then(|| PathBuf::from(key));
        let work = move || {
            let reader = Chunks { receiving, chunk: Bytes::new() };
            let _ = ending.send(verify::walk(reader, key.as_deref()));
        };
        // Without a thread the end is never sent, which reads as a failure.
        let _ = std::thread::Builder::new().name("open".into()).spawn(work);
        Self { chunks, end }
    }

    async fn give(&mut self, chunk: Bytes) {
        // The thread may have found a mistake and ended: the digest still wants every byte.
        let _ = self.chunks.send(chunk).await;
    }

    async fn finish(self) -> Result<Contents, verify::Error> {
        drop(self.chunks);
        self.end.await.unwrap_or(Err(verify::Error::Ended))
    }
}

/// What the network gives, as the thread reads it.
struct Chunks {
    receiving: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiving.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let taken = buffer.len().min(self.chunk.len());
        buffer[..taken].copy_from_slice(&self.chunk.split_to(taken));
        Ok(taken)
    }
}
