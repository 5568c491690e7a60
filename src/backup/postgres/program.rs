//! PostgreSQL's client programs: where they are on this machine, and of which version.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where packages put one major version beside the other: Debian's, and PostgreSQL's own for RPM systems.
const FOLDERS: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// The program of the newest version on this machine.
pub(super) fn newest(program: &str) -> Option<PathBuf> {
    let packaged = FOLDERS.iter().flat_map(|(folder, prefix)| versions(Path::new(folder), prefix));
    let newest = packaged.map(|(major, folder)| (major, folder.join("bin").join(program)));
    let newest = newest.filter(|(_, path)| path.is_file()).max_by_key(|(major, _)| *major);
    newest.map(|(_, path)| path).or_else(|| on_path(program))
}

fn versions(folder: &Path, prefix: &str) -> Vec<(u32, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let version = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let major = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
        Some((major, entry.path()))
    };
    entries.filter_map(version).collect()
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_absolute() && path.is_file())
}

/// `15.18` out of `pg_dump (PostgreSQL) 15.18 (Debian …)`, with its major version.
pub(super) fn version(said: &str) -> Option<(String, u32)> {
    number(said.split_whitespace().skip_while(|word| *word != "(PostgreSQL)").nth(1)?)
}

/// A version as a server or client writes it, with its major version.
pub(super) fn number(text: &str) -> Option<(String, u32)> {
    let number = text.split_whitespace().next()?;
    let is_plain = number.len() <= 16 && number.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
    let major: String = number.chars().take_while(char::is_ascii_digit).collect();
    Some((is_plain.then(|| number.to_owned())?, major.parse().ok()?))
}

/// Whether starting the program may work later.
pub(super) fn is_transient(error: &std::io::Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::NotADirectory | ErrorKind::InvalidInput
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_written() {
        for (said, wanted) in [
            ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(("15.18", 15))),
            ("pg_dump (PostgreSQL) 18.4\n", Some(("18.4", 18))),
            ("pg_dump (PostgreSQL) 19beta1\n", Some(("19beta1", 19))),
            ("pg_dump (PostgreSQL) \u{1b}[31m\n", None),
            ("something else", None),
        ] {
            assert_eq!(version(said), wanted.map(|(text, major)| (text.to_owned(), major)), "{said}");
        }
    }
}
