//! One configuration with everything that is open for it: clients, logins, tokens. Replaced as a whole.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::config::{Config, Name, Reference};
use crate::http::Http;
use crate::sync::{Pass, Subject};

/// The configuration in force, and what is open for it.
pub struct World {
    /// The configuration.
    pub config: Rc<Config>,
    /// Its nodes with their stores and tokens.
    pub pass: Pass,
    files: Vec<(PathBuf, Option<Stamp>)>,
}

/// What changes whenever a file is replaced or written.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed_at: (i64, i64),
}

impl World {
    /// Opens it; nothing is asked yet.
    #[must_use]
    pub fn new(config: Rc<Config>) -> Self {
        // Before the clients are built: what changes in between is noticed next time.
        let files = connection_files(&config).into_iter().map(|path| (stamp(&path), path));
        let files = files.map(|(stamp, path)| (path, stamp)).collect();
        Self { pass: Pass::lasting(&config), config, files }
    }

    /// True where a file that connections are built from is another than when this was opened: certificates and
    /// kubeconfigs. Secrets are read at each use anyway.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.files.iter().any(|(path, seen)| stamp(path) != *seen)
    }

    /// A node of it.
    #[must_use]
    pub fn subject(&self, name: &Name) -> Option<(&Subject, &Http)> {
        self.pass.subjects().find(|(subject, _)| subject.name == *name)
    }
}

fn connection_files(config: &Config) -> Vec<PathBuf> {
    let is_read_once = |key: &str| {
        [".ca_file", ".client_cert_file", ".client_key_file", ".kubeconfig"].iter().any(|end| key.ends_with(end))
    };
    let references = config.references();
    let files = references.iter().filter(|(key, _)| is_read_once(key)).filter_map(|(_, reference)| match reference {
        Reference::PrivateFile(path) | Reference::GuardedFile(path) => Some(path.to_path_buf()),
        Reference::Secret(_) => None,
    });
    let mut files: Vec<PathBuf> = files.collect();
    // Those that no key names: a pod's own CA, the user's kubeconfig.
    if let Some(list) = std::env::var_os("KUBECONFIG") {
        files.extend(std::env::split_paths(&list));
    }
    files.push(crate::store::IN_CLUSTER_CA.into());
    files.sort_unstable();
    files.dedup();
    files
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = path.metadata().ok()?;
    Some(Stamp {
        device: file.dev(),
        inode: file.ino(),
        size: file.size(),
        changed_at: (file.ctime(), file.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_rewritten_or_gone_has_another_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert_eq!(stamp(&path), None);
        std::fs::write(&path, "one").unwrap();
        let first = stamp(&path);
        assert!(first.is_some() && first == stamp(&path));
        std::fs::write(folder.path().join("new"), "two").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_ne!(stamp(&path), first);
    }
}
