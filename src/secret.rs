//! Secrets that the configuration refers to: read at each use, bounded, held in wiped memory.

mod secrets;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use zeroize::{Zeroize, Zeroizing};

use crate::config::SecretRef;
use crate::error::{Failure, Fault};
use crate::store::vault;
pub use secrets::Secrets;

/// The largest secret that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a secret could not be read. Holds where it is, never what it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or read.
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The file's mode lets others read it.
    #[error("{} may be read by others (mode {mode:04o})", path.display())]
    TooOpen { path: PathBuf, mode: u32 },
    /// More than 64 KiB.
    #[error("{} is larger than 64 KiB", path.display())]
    TooLarge { path: PathBuf },
    /// Nothing in it.
    #[error("{0} is empty")]
    Empty(String),
    /// Not UTF-8.
    #[error("{0} is not UTF-8 text")]
    NotText(String),
    /// The variable is not set.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// Vault does not give it.
    #[error(transparent)]
    Vault(Box<vault::Unread>),
    /// A reference to Vault where there is none; the configuration was checked before.
    #[error("a reference to the store `{0}` cannot be followed here")]
    NoVault(String),
}

impl Failure for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Vault(error) => error.fault(),
            _ => Fault::Config,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Vault(error) => error.retry_after(),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::TooOpen { path, .. } => Some(format!("chmod o-rwx {}", path.display())),
            Self::Read { source, .. } if source.kind() == ErrorKind::NotFound => {
                Some("is the secret mounted, and is the path in the configuration right?".into())
            }
            Self::Read { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                Some("let this user read it: a group and mode 0440 will do".into())
            }
            Self::Vault(error) => error.hint(),
            Self::Unset(name) => Some(format!("set {name}, or better, refer to a file")),
            _ => None,
        }
    }
}

/// Overwrites the stack below the caller's frame, where functions that have returned left copies: key
/// parsers pass arrays by value, and no destructor sees what was moved out.
#[inline(never)]
#[expect(clippy::large_stack_arrays, reason = "its size is its purpose")]
pub fn scrub_stack() {
    let mut below = [0_u8; 128 * 1024];
    below.zeroize();
    std::hint::black_box(&below);
}

/// Reads a secret of this machine as it is now.
pub fn resolve_local(reference: &SecretRef) -> Result<SecretString, Error> {
    match reference {
        SecretRef::File(path) => text(&private_file(path)?, path),
        SecretRef::Env(name) => {
            let mut value = std::env::var(name).map_err(|_| Error::Unset(name.clone()))?;
            if value.is_empty() {
                return Err(Error::Empty(name.clone()));
            }
            let secret = SecretString::from(value.as_str());
            value.zeroize();
            Ok(secret)
        }
        SecretRef::Vault(reference) => Err(Error::NoVault(reference.store.to_string())),
    }
}

/// Looks whether a secret of this machine could be read, without reading it. One of Vault's is left alone.
pub fn probe(reference: &SecretRef) -> Result<(), Error> {
    match reference {
        SecretRef::File(path) => {
            let metadata = open_private(path)?.metadata();
            let metadata = metadata.map_err(|source| Error::Read { path: path.clone(), source })?;
            if metadata.is_file() && metadata.len() == 0 {
                return Err(Error::Empty(path.display().to_string()));
            }
            Ok(())
        }
        SecretRef::Env(name) => match std::env::var_os(name) {
            None => Err(Error::Unset(name.clone())),
            Some(value) if value.is_empty() => Err(Error::Empty(name.clone())),
            Some(_) => Ok(()),
        },
        SecretRef::Vault(_) => Ok(()),
    }
}

/// Reads a file that others must not be able to read, such as a private key.
pub fn private_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    read(open_private(path)?, path)
}

/// Reads a file that is guarded by other means: certificates, service-account tokens.
pub fn guarded_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    read(open(path)?, path)
}

/// Reads a guarded file as text, without its trailing newline.
pub fn guarded_text(path: &Path) -> Result<SecretString, Error> {
    text(&guarded_file(path)?, path)
}

fn text(bytes: &[u8], path: &Path) -> Result<SecretString, Error> {
    let name = || path.display().to_string();
    let text = std::str::from_utf8(bytes).map_err(|_| Error::NotText(name()))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    if text.is_empty() {
        return Err(Error::Empty(name()));
    }
    Ok(SecretString::from(text))
}

fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::Read { path: path.into(), source })
}

fn open_private(path: &Path) -> Result<File, Error> {
    let file = open(path)?;
    let metadata = file.metadata().map_err(|source| Error::Read { path: path.into(), source })?;
    if metadata.is_dir() {
        return Err(Error::Read { path: path.into(), source: ErrorKind::IsADirectory.into() });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o004 != 0 {
        return Err(Error::TooOpen { path: path.into(), mode });
    }
    Ok(file)
}

fn read(file: File, path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    // Room for all of it at once: a growing vector would leave copies behind until the allocator wipes them.
    let size = file.metadata().map_or(0, |metadata| metadata.len()).min(MAX_BYTES);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 64));
    let result = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    result.map_err(|source| Error::Read { path: path.into(), source })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::TooLarge { path: path.into() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
        file
    }

    fn read(content: &[u8], mode: u32) -> Result<String, Error> {
        let file = file(content, mode);
        resolve_local(&SecretRef::File(file.path().into())).map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn one_trailing_newline_is_dropped() {
        assert_eq!(read(b"s3cret\n\n", 0o600).unwrap(), "s3cret\n");
        assert_eq!(read(b"s3cret", 0o600).unwrap(), "s3cret");
    }

    #[test]
    fn a_group_may_read_it_but_others_may_not() {
        assert!(read(b"x", 0o440).is_ok());
        assert!(matches!(read(b"x", 0o644), Err(Error::TooOpen { mode: 0o644, .. })));
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        assert!(matches!(read(b"\n", 0o600), Err(Error::Empty(_))));
        assert!(matches!(read(&vec![b'x'; 65 * 1024], 0o600), Err(Error::TooLarge { .. })));
        assert!(matches!(read(b"\xff", 0o600), Err(Error::NotText(_))));
    }
}
