//! An object as a stream of bytes that outlives its connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use object_store::path::Path;
use object_store::{GetOptions, GetRange};

use super::folder::Folder;
use super::{Cloud, Doing, Error};
use crate::error::{Failure as _, Fault};

/// Failures in a row, without a byte in between, that end a stream.
const FAILURES: u32 = 6;

type Pieces<T> = BoxStream<'static, Result<Bytes, T>>;

/// A file, read in pieces on a thread of its own.
pub async fn of_file(folder: Folder, key: String, doing: Doing) -> Result<Pieces<Error>, Error> {
    match folder.size(&key).await {
        Ok(Some(_)) => {}
        Ok(None) => return Err(Error::Missing { doing }),
        Err(source) => return Err(Error::Io { doing, source }),
    }
    let pieces = stream::try_unfold((folder, key, doing, 0), |(folder, key, doing, offset)| async move {
        match folder.chunk(&key, offset).await {
            Ok(bytes) if bytes.is_empty() => Ok(None),
            Ok(bytes) => {
                let next = offset + bytes.len() as u64;
                Ok(Some((bytes, (folder, key, doing, next))))
            }
            Err(source) => Err(Error::Io { doing, source }),
        }
    });
    Ok(pieces.boxed())
}

/// An object of a cloud.
pub async fn of_object(cloud: Arc<dyn Cloud>, path: Path, doing: Doing) -> Result<Pieces<Error>, Error> {
    let mut reading = Reading { cloud, path, doing, version: None, offset: 0, size: 0, pieces: None, failures: 0 };
    // Whether it is there is known before the first byte is asked for.
    reading.ensure_open().await?;
    let pieces =
        stream::try_unfold(
            reading,
            |mut reading| async move { Ok(reading.next().await?.map(|bytes| (bytes, reading))) },
        );
    Ok(pieces.boxed())
}

struct Reading {
    cloud: Arc<dyn Cloud>,
    path: Path,
    doing: Doing,
    /// The version that was begun: another one is never appended to it.
    version: Option<String>,
    offset: u64,
    size: u64,
    pieces: Option<Pieces<object_store::Error>>,
    failures: u32,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            self.ensure_open().await?;
            let piece = match &mut self.pieces {
                Some(pieces) => pieces.next().await,
                None => None,
            };
            match piece {
                Some(Ok(bytes)) => {
                    self.offset += bytes.len() as u64;
                    self.failures = 0;
                    return Ok(Some(bytes));
                }
                None if self.offset >= self.size => return Ok(None),
                // Less than was promised: the connection ended, whatever it said.
                None => self.failed(Error::Garbled { doing: self.doing.clone() }).await?,
                Some(Err(error)) => self.failed(Error::of(self.doing.clone(), &error)).await?,
            }
        }
    }

    async fn ensure_open(&mut self) -> Result<(), Error> {
        while self.pieces.is_none() {
            let rest = (self.offset > 0).then_some(GetRange::Offset(self.offset));
            let options = GetOptions { range: rest, if_match: self.version.clone(), ..GetOptions::default() };
            match self.cloud.get_opts(&self.path, options).await {
                Ok(answer) => {
                    self.size = answer.meta.size;
                    self.version.clone_from(&answer.meta.e_tag);
                    self.pieces = Some(answer.into_stream());
                }
                Err(error) => self.failed(Error::of(self.doing.clone(), &error)).await?,
            }
        }
        Ok(())
    }

    /// Waits before another try, or gives up.
    async fn failed(&mut self, error: Error) -> Result<(), Error> {
        self.failures += 1;
        if error.is_answer() || error.fault() != Fault::Transient || self.failures >= FAILURES {
            return Err(error);
        }
        self.pieces = (self.offset >= self.size && self.size > 0).then(|| stream::empty().boxed());
        let delay = Duration::from_millis(200 << self.failures).mul_f64(0.5 + fastrand::f64() / 2.0);
        tracing::info!(what = "reading", offset = self.offset, error = crate::error::chain(&error), "trying again");
        tokio::time::sleep(error.retry_after().unwrap_or_default().max(delay)).await;
        Ok(())
    }
}
