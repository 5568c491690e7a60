//! The contents of a dump: opened with the private key, decompressed, and walked to their end.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use age::{Decryptor, Identity, IdentityFile};

use crate::backup::archive;
use crate::error::{Failure, Fault};
use crate::secret;

/// The largest header of an age file that is read; a recipient takes some 100 bytes, a post-quantum one 2 KiB.
const MAX_HEADER: usize = 256 * 1024;

/// The binary logarithm of the largest window that zstd may ask memory for; level 19 asks for 23.
const MAX_WINDOW: u32 = 25;

/// Why a private key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("reading the key")]
    Read(#[from] secret::Error),
    /// Neither an age key file nor an SSH key.
    #[error("{0} holds no private key of age or SSH (Ed25519) that can be used without a passphrase")]
    NotAKey(String),
}

impl Failure for KeyError {
    fn fault(&self) -> Fault {
        Fault::Config
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read(error) => error.hint(),
            Self::NotAKey(_) => Some("`age-keygen -o FILE` writes such a file; --key names it".into()),
        }
    }
}

/// Why a dump could not be walked to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Sealed to others.
    #[error("sealed to other keys than this one")]
    OtherKey,
    /// Not an age file.
    #[error("not a file that age has sealed")]
    NotSealed,
    /// The archive's own reason.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// Something follows the archive, or cannot be read up to its end.
    #[error("after the archive's end: {0}")]
    Trailing(&'static str),
    /// zstd does not start.
    #[error("starting to decompress")]
    Decompress,
    /// The thread that walked it is gone.
    #[error("a mistake of idkeep itself")]
    Ended,
}

/// A private key, read when it is needed.
pub fn load_key(path: &Path) -> Result<Vec<Box<dyn Identity + Send + Sync>>, KeyError> {
    let bytes = secret::private_file(path)?;
    let not_a_key = || KeyError::NotAKey(path.display().to_string());
    if bytes.starts_with(b"-----BEGIN") {
        let key = age::ssh::Identity::from_buffer(&**bytes, None).map_err(|_| not_a_key())?;
        return match key {
            age::ssh::Identity::Unencrypted(_) => Ok(vec![Box::new(key)]),
            _ => Err(not_a_key()),
        };
    }
    let file = IdentityFile::from_buffer(&**bytes).map_err(|_| not_a_key())?;
    let keys = file.into_identities().map_err(|_| not_a_key())?;
    if keys.is_empty() { Err(not_a_key()) } else { Ok(keys) }
}

/// Reads a stored dump to its end: sealed where there is a key, in clear where there is none. Whoever calls it scrubs
/// the stack afterwards.
#[inline(never)]
pub fn walk(stored: impl Read, key: Option<&Path>) -> Result<archive::Contents, Error> {
    let Some(key) = key else { return decompress(stored) };
    let keys = load_key(key)?;
    let mut stored = BufReader::with_capacity(64 * 1024, stored);
    let header = Cursor::new(header(&mut stored)?);
    let decryptor = Decryptor::new_buffered(header.chain(stored)).map_err(|_| Error::NotSealed)?;
    let opened = decryptor.decrypt(keys.iter().map(|key| &**key as &dyn Identity)).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => Error::OtherKey,
        _ => Error::NotSealed,
    })?;
    decompress(opened)
}

fn decompress(sealed: impl Read) -> Result<archive::Contents, Error> {
    let mut plain = zstd::Decoder::new(sealed).map_err(|_| Error::Decompress)?;
    plain.window_log_max(MAX_WINDOW).map_err(|_| Error::Decompress)?;
    let contents = archive::walk(&mut plain)?;
    // The last frame of age and the checksum of zstd come after the archive's last byte.
    match io::copy(&mut plain, &mut io::sink()) {
        Ok(0) => Ok(contents),
        Ok(_) => Err(Error::Trailing("more bytes than it has")),
        Err(_) => Err(Error::Trailing("the file is damaged or cut off")),
    }
}

/// The lines of an age file up to its MAC: age itself reads a header however long it is, and a forged one has no end.
fn header(sealed: &mut impl BufRead) -> Result<Vec<u8>, Error> {
    let mut header = Vec::new();
    loop {
        let start = header.len();
        let left = MAX_HEADER.saturating_sub(start) as u64;
        let read = sealed.by_ref().take(left).read_until(b'\n', &mut header);
        let is_line = read.is_ok_and(|read| read > 0) && header.ends_with(b"\n");
        if !is_line || !header.starts_with(b"age-encryption.org/") {
            return Err(Error::NotSealed);
        }
        if header[start..].starts_with(b"--- ") {
            return Ok(header);
        }
    }
}

#[cfg(test)]
mod tests;
