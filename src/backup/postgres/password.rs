//! The password on its way to a client: a file in memory that only the child that inherits it can read.

use std::io::Write as _;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// The child's descriptor of the file.
pub(super) const FD: i32 = 3;

/// Where libpq reads it: `PGPASSFILE`.
pub(super) const PATH: &str = "/proc/self/fd/3";

/// Why there is no such file.
pub(super) enum Trouble {
    /// A line break cannot stand in it.
    Shape,
    /// The kernel refuses.
    Kernel,
}

impl From<std::io::Error> for Trouble {
    fn from(_: std::io::Error) -> Self {
        Self::Kernel
    }
}

impl From<rustix::io::Errno> for Trouble {
    fn from(_: rustix::io::Errno) -> Self {
        Self::Kernel
    }
}

/// The file, complete and sealed against any change.
pub(super) fn file(password: &SecretString) -> Result<OwnedFd, Trouble> {
    let line = line(password.expose_secret()).ok_or(Trouble::Shape)?;
    let file = memfd_create("idkeep", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    // libpq takes no file that a group may read.
    fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    let mut file = std::fs::File::from(file);
    file.write_all(line.as_bytes())?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

/// The one line, good for any host, port, database and user.
fn line(password: &str) -> Option<Zeroizing<String>> {
    if password.contains(['\n', '\r', '\0']) {
        return None;
    }
    // Room for all at once, so that nothing moves.
    let mut line = Zeroizing::new(String::with_capacity(2 * password.len() + 16));
    line.push_str("*:*:*:*:");
    for c in password.chars() {
        if matches!(c, ':' | '\\') {
            line.push('\\');
        }
        line.push(c);
    }
    line.push('\n');
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_the_field_is_escaped() {
        assert_eq!(line(r"a:b\c").unwrap().as_str(), "*:*:*:*:a\\:b\\\\c\n");
        assert!(line("a\nb").is_none() && line("a\r").is_none());
    }

    #[test]
    fn the_file_is_private_and_cannot_be_changed() {
        use std::os::unix::fs::PermissionsExt as _;
        let Ok(file) = file(&SecretString::from("s3cret")) else { panic!("no file") };
        let mut file = std::fs::File::from(file);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(file.write_all(b"x").is_err());
    }
}
