//! The stream: what `pg_dump` writes, compressed, sealed and cut into parts, in one thread and three buffers.
//!
//! Nothing is a set because the stream ended: whether the dump was whole is for its exit status to say, and for the
//! archive itself, which is walked on its way. A client in a container may end well and have passed on half of it.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Pool, Sender as Return};
use std::time::Duration;

use age::Encryptor;
use age::stream::StreamWriter;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::archive;
use crate::config::Compression;
use crate::error::{Failure, Fault};
use crate::secret::scrub_stack;

/// Parts that exist at the same time: one that is filled, two that are sent.
const PARTS: usize = 3;

/// Without a size of its own, a job of zstd's would buffer 8 MiB for each thread.
const JOB_BYTES: u32 = 2 * 1024 * 1024;

/// How long the end of a dump that was killed is waited for.
const ABANDONING: Duration = Duration::from_secs(5);

/// Why a dump could not be brought into parts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The dump's pipe broke.
    #[error("reading the dump")]
    Read(#[source] io::Error),
    /// What came is no archive, or not to its end, whatever the exit status says.
    #[error("what came is not a whole dump")]
    NotWhole(#[source] archive::Error),
    /// zstd or age refused.
    #[error("compressing and sealing the dump")]
    Seal,
    /// No room for another thread.
    #[error("starting the thread that seals the dump")]
    Thread(#[source] io::Error),
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Read(_) | Self::NotWhole(_) | Self::Thread(_) => Fault::Transient,
            Self::Seal => Fault::Bug,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotWhole(_) => Some(
                "does the command in `exec`, or `binary`, pass on every byte of `pg_dump`, and nothing else? a connection of its own (`url`) does".into(),
            ),
            _ => None,
        }
    }
}

/// What a stream came to, once it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// What the dump wrote, in bytes.
    pub plain_bytes: u64,
    /// What is to be stored, in bytes.
    pub bytes: u64,
    /// Hex SHA-256 of what is to be stored.
    pub sha256: String,
}

/// How far a stream is; read while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    plain_bytes: AtomicU64,
    stored_bytes: AtomicU64,
}

impl Progress {
    /// What the dump has written so far, in bytes.
    #[must_use]
    pub fn plain_bytes(&self) -> u64 {
        self.plain_bytes.load(Ordering::Relaxed)
    }

    /// What has come out of it, in bytes.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes.load(Ordering::Relaxed)
    }
}

/// A stream under way.
pub struct Stream {
    parts: mpsc::Receiver<Bytes>,
    end: oneshot::Receiver<Result<Sums, Error>>,
    progress: Arc<Progress>,
}

/// What is done to the dump.
pub struct Treatment {
    /// How it is compressed.
    pub compression: Compression,
    /// What seals it; none leaves it as it is.
    pub encryptor: Option<Encryptor>,
    /// The size of every part but the last, in bytes.
    pub part_bytes: usize,
}

impl Stream {
    /// Starts to read the dump.
    pub fn start(dump: impl Read + Send + 'static, treatment: Treatment) -> Result<Self, Error> {
        let (sending, parts) = mpsc::channel(1);
        let (ending, end) = oneshot::channel();
        let progress = Arc::<Progress>::default();
        let shared = Arc::clone(&progress);
        // Boxed: a key that is passed by value stays behind in every frame, also in those that no scrub reaches.
        let treatment = Box::new(treatment);
        let work = move || {
            let ended = run(dump, treatment, sending, &shared);
            scrub_stack();
            // Nobody may be there any more to hear how it ended.
            let _ = ending.send(ended);
        };
        std::thread::Builder::new().name("seal".into()).spawn(work).map_err(Error::Thread)?;
        Ok(Self { parts, end, progress })
    }

    /// The next part, all of one size but the last; `None` at the end, well or badly.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.parts.recv().await
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// What it came to.
    pub async fn finish(mut self) -> Result<Sums, Error> {
        self.parts.close();
        // A part that nobody takes would keep its buffer, and the thread waiting for it.
        while self.parts.recv().await.is_some() {}
        self.end.await.unwrap_or(Err(Error::Seal))
    }

    /// Gives it up, and waits until its thread holds nothing more: the dump must have ended. What it has started in its
    /// turn may still hold the pipe open, and is not waited for.
    pub async fn abandon(self) {
        if tokio::time::timeout(ABANDONING, self.finish()).await.is_err() {
            tracing::warn!(
                "something still holds the pipe of a dump that was killed: what was read of it stays in memory"
            );
        }
    }
}

// In a frame of its own, which is scrubbed afterwards.
#[expect(clippy::boxed_local, reason = "moved here by value, the key would stay behind in the caller's frame")]
#[inline(never)]
fn run(
    dump: impl Read,
    treatment: Box<Treatment>,
    sending: mpsc::Sender<Bytes>,
    progress: &Arc<Progress>,
) -> Result<Sums, Error> {
    let Treatment { compression, encryptor, part_bytes } = *treatment;
    let parts = Parts::new(part_bytes, sending, Arc::clone(progress));
    let sealing = match encryptor {
        Some(encryptor) => Sealing::Age(encryptor.wrap_output(parts).map_err(|_| Error::Seal)?),
        None => Sealing::None(parts),
    };
    let compressing = compressor(sealing, compression).map_err(|_| Error::Seal)?;
    let mut tee = Tee { dump, compressing, plain_bytes: 0, is_refused: false, progress: Arc::clone(progress) };
    let walked = match archive::walk(&mut tee) {
        // Of a later `pg_dump` than any that is known here: its exit status has to do.
        Err(archive::Error::Version { .. }) => io::copy(&mut tee, &mut io::sink()).map(|_| ()).map_err(Error::Read),
        Err(archive::Error::Read { source, .. }) => Err(Error::Read(source)),
        walked => walked.map(|_| ()).map_err(Error::NotWhole),
    };
    let Tee { compressing, plain_bytes, is_refused, .. } = tee;
    if is_refused {
        return Err(Error::Seal);
    }
    walked?;
    let parts = compressing.finish().and_then(Sealing::finish).map_err(|_| Error::Seal)?;
    let (bytes, sha256) = parts.finish().map_err(|_| Error::Seal)?;
    Ok(Sums { plain_bytes, bytes, sha256 })
}

/// The dump, of which every byte that is read has been passed on.
struct Tee<R> {
    dump: R,
    compressing: zstd::Encoder<'static, Sealing>,
    plain_bytes: u64,
    is_refused: bool,
    progress: Arc<Progress>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.dump.read(buffer)?;
        self.plain_bytes += read as u64;
        let passed_on = self.compressing.write_all(&buffer[..read]);
        self.is_refused |= passed_on.is_err();
        self.progress.plain_bytes.store(self.plain_bytes, Ordering::Relaxed);
        passed_on.map(|()| read)
    }
}

fn compressor(sealing: Sealing, compression: Compression) -> io::Result<zstd::Encoder<'static, Sealing>> {
    let level = i32::try_from(compression.level).unwrap_or(3);
    let mut encoder = zstd::Encoder::new(sealing, level)?;
    encoder.include_checksum(true)?;
    let workers = compression.workers.unwrap_or_else(default_workers);
    if workers > 0 {
        encoder.multithread(workers)?;
        encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(JOB_BYTES))?;
    }
    Ok(encoder)
}

/// One per core, up to four: more than `pg_dump` can feed.
fn default_workers() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores.min(4)).unwrap_or(1)
}

/// Sealed or not: what comes out of zstd goes through here.
enum Sealing {
    Age(StreamWriter<Parts>),
    None(Parts),
}

impl Sealing {
    fn finish(self) -> io::Result<Parts> {
        match self {
            Self::Age(writer) => writer.finish(),
            Self::None(parts) => Ok(parts),
        }
    }
}

impl Write for Sealing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Age(writer) => writer.write(bytes),
            Self::None(parts) => parts.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Age(writer) => writer.flush(),
            Self::None(parts) => parts.flush(),
        }
    }
}

/// Cuts what is written into parts of one size and digests it. Buffers go round, so there are never more than three.
struct Parts {
    size: usize,
    buffer: Vec<u8>,
    digest: Sha256,
    bytes: u64,
    sending: mpsc::Sender<Bytes>,
    pool: Pool<Vec<u8>>,
    back: Return<Vec<u8>>,
    progress: Arc<Progress>,
}

/// A part on its way; its buffer goes back when the last who holds it lets go.
struct Part {
    buffer: Vec<u8>,
    back: Return<Vec<u8>>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        // The stream may be over.
        let _ = self.back.send(buffer);
    }
}

impl Parts {
    fn new(size: usize, sending: mpsc::Sender<Bytes>, progress: Arc<Progress>) -> Self {
        let (back, pool) = std::sync::mpsc::channel();
        for _ in 1..PARTS {
            let _ = back.send(Vec::new());
        }
        Self { size, buffer: Vec::new(), digest: Sha256::new(), bytes: 0, sending, pool, back, progress }
    }

    /// Sends what is in the buffer, and waits for another one.
    fn send(&mut self) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let part = Part { buffer: std::mem::take(&mut self.buffer), back: self.back.clone() };
        self.sending.blocking_send(Bytes::from_owner(part)).map_err(|_| gone())?;
        self.buffer = self.pool.recv().map_err(|_| gone())?;
        Ok(())
    }

    fn finish(mut self) -> io::Result<(u64, String)> {
        if !self.buffer.is_empty() || self.bytes == 0 {
            let part = Part { buffer: std::mem::take(&mut self.buffer), back: self.back.clone() };
            self.sending
                .blocking_send(Bytes::from_owner(part))
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok((self.bytes, base16ct::lower::encode_string(&self.digest.finalize())))
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == self.size {
            self.send()?;
        }
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(self.size);
        }
        let taken = bytes.len().min(self.size - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        self.digest.update(&bytes[..taken]);
        self.bytes += taken as u64;
        self.progress.stored_bytes.store(self.bytes, Ordering::Relaxed);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pipe_that_somebody_holds_open_does_not_keep_who_gave_it_up() {
        let (reader, held) = std::io::pipe().unwrap();
        let treatment = Treatment { compression: Compression::default(), encryptor: None, part_bytes: 1 << 20 };
        let stream = Stream::start(reader, treatment).unwrap();
        let given_up_at = tokio::time::Instant::now();
        stream.abandon().await;
        assert!(given_up_at.elapsed() >= ABANDONING);
        drop(held);
    }
}
