//! One configuration with everything that is open for it: clients, logins, tokens. Replaced as a whole.

use std::cell::RefCell;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::agenda::Task;
use crate::config::{Config, Name, Reference, Timing};
use crate::http::Http;
use crate::sync::{Pass, Subject};

/// The world in force, wherever it is asked for.
#[derive(Clone)]
pub struct Current(Rc<RefCell<Rc<World>>>);

impl Current {
    /// This one.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self(Rc::new(RefCell::new(Rc::new(world))))
    }

    /// The one in force.
    #[must_use]
    pub fn world(&self) -> Rc<World> {
        Rc::clone(&self.0.borrow())
    }

    /// Puts another in its place, which takes over what only this one has; returns the one before.
    #[must_use]
    pub fn replace(&self, config: Rc<Config>) -> Rc<World> {
        let world = World::new(config);
        world.pass.secrets().take_over(self.0.borrow().pass.secrets());
        self.0.replace(Rc::new(world))
    }
}

/// The configuration in force, and what is open for it.
pub struct World {
    /// The configuration.
    pub config: Rc<Config>,
    /// Its nodes with their stores and tokens.
    pub pass: Pass,
    files: RefCell<Vec<(PathBuf, Option<Stamp>)>>,
}

/// A file as it was: what changes whenever it is replaced or written, and what is in it. The kubelet replaces every file of
/// a volume for the sake of one.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    meta: (u64, u64, u64, i64, i64),
    digest: Option<[u8; 32]>,
}

impl World {
    /// Opens it; nothing is asked yet.
    #[must_use]
    pub fn new(config: Rc<Config>) -> Self {
        // Before the clients are built: what changes in between is noticed next time.
        let files = connection_files(&config).into_iter().map(|path| (stamp(&path), path));
        let files = files.map(|(stamp, path)| (path, stamp)).collect();
        Self { pass: Pass::lasting(&config), config, files: RefCell::new(files) }
    }

    /// True where a file is another than when this was opened that connections or credentials are made from once:
    /// certificates, kubeconfigs, the clouds' own. The configuration's secrets are read at each use anyway.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        have_changed(&self.files)
    }

    /// When a task runs; nothing where it is not scheduled.
    #[must_use]
    pub fn timing(&self, task: Task) -> Option<Timing> {
        self.config.schedule.tasks().find(|(key, _)| *key == task.as_str()).map(|(_, timing)| timing)
    }

    /// True where this node has the same source, stores and repository in both.
    #[must_use]
    pub fn has_the_same(&self, node: &Name, other: &Self) -> bool {
        std::ptr::eq(self, other) || same_node(&self.config, &other.config, node)
    }

    /// A node of it.
    #[must_use]
    pub fn subject(&self, name: &Name) -> Option<(&Subject, &Http)> {
        self.pass.subjects().find(|(subject, _)| subject.name == *name)
    }
}

/// True where a node of two configurations comes from the same source and goes to the same places.
#[must_use]
pub fn same_node(one: &Config, other: &Config, node: &Name) -> bool {
    let whole = |config: &Config| {
        let node = config.nodes.get(node)?;
        let stores: Vec<_> = node.identity.stores.iter().map(|store| config.stores.get(store)).collect();
        let repository = node.backup.as_ref().map(|backup| config.repositories.get(&backup.repository));
        serde_json::to_value((node, stores, repository)).ok()
    };
    whole(one) == whole(other)
}

/// Files that connections and credentials are made from, and that nobody looks at again at each use.
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
    // Those that no key names: the clouds' own, a pod's, the user's, and the system's authorities.
    for name in NAMED_BY {
        files.extend(std::env::var_os(name).iter().flat_map(std::env::split_paths));
    }
    if let Some(home) = std::env::var_os("HOME") {
        files.extend(IN_HOME.iter().map(|file| Path::new(&home).join(file)));
    }
    files.extend(AUTHORITIES.iter().map(PathBuf::from));
    files.push(crate::store::IN_CLUSTER_CA.into());
    files.sort_unstable();
    files.dedup();
    files
}

/// Variables that name such files.
const NAMED_BY: [&str; 7] = [
    "KUBECONFIG",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Where they lie otherwise.
const IN_HOME: [&str; 4] =
    [".kube/config", ".aws/credentials", ".aws/config", ".config/gcloud/application_default_credentials.json"];

/// Where systems keep the authorities that they trust.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Notes how they are now.
fn have_changed(files: &RefCell<Vec<(PathBuf, Option<Stamp>)>>) -> bool {
    files.borrow_mut().iter_mut().any(|(path, seen)| {
        if meta(path) == seen.as_ref().map(|seen| seen.meta) {
            return false;
        }
        let now = stamp(path);
        let is_same = |one: &Stamp, other: &Stamp| one.digest.is_some() && one.digest == other.digest;
        let has_changed = !now.as_ref().zip(seen.as_ref()).is_some_and(|(now, seen)| is_same(now, seen));
        *seen = now;
        has_changed
    })
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = meta(path)?;
    // A folder has no content of its own.
    let content = std::fs::read(path).ok().map(Zeroizing::new);
    Some(Stamp { meta, digest: content.map(|content| Sha256::digest(&*content).into()) })
}

fn meta(path: &Path) -> Option<(u64, u64, u64, i64, i64)> {
    let file = path.metadata().ok()?;
    Some((file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_says_something_else_or_is_gone_is_noticed_and_one_that_says_the_same_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let put = |content: &str| {
            std::fs::write(folder.path().join("new"), content).unwrap();
            std::fs::rename(folder.path().join("new"), &path).unwrap();
        };
        put("one");
        let files = RefCell::new(vec![(path.clone(), stamp(&path))]);
        assert!(!have_changed(&files));
        put("one");
        assert!(!have_changed(&files), "another file with the same content");
        put("two");
        assert!(have_changed(&files));
        assert!(!have_changed(&files), "that is known by now");
        std::fs::remove_file(&path).unwrap();
        assert!(have_changed(&files) && !have_changed(&files));
        put("two");
        assert!(have_changed(&files));
    }
}
