//! podman, with images and containers in a folder of its own. Nothing comes from a registry.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::parts;

/// What podman needs where nobody has set it up: no network of its own, limits that a container inside one may have.
const SETTINGS: &str = "[containers]\ndefault_ulimits = [\"nofile=20000:20000\",\"nproc=1000:1000\"]\nnetns = \"host\"\n\
    [engine]\nruntime = \"runc\"\nevents_logger = \"file\"\ncgroup_manager = \"cgroupfs\"\n";

/// Its containers and images go with it.
pub struct Podman {
    folder: TempDir,
}

impl Podman {
    pub fn new() -> Self {
        let podman = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(podman.path("containers.conf"), SETTINGS).unwrap();
        podman
    }

    /// Something beside the containers that lasts as long.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The whole command line, for who runs it himself.
    pub fn words(&self, arguments: &[&str]) -> Vec<String> {
        let at = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let settings = format!("CONTAINERS_CONF={}", at("containers.conf"));
        let mut words = vec!["env".to_owned(), settings, parts::tool("podman").to_str().unwrap().to_owned()];
        words.extend(["--root".into(), at("store"), "--runroot".into(), at("run")]);
        words.extend(["--storage-driver", "vfs"].map(String::from));
        words.extend(arguments.iter().map(ToString::to_string));
        words
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let words = self.words(arguments);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// What it prints, where it succeeds.
    pub fn must(&self, arguments: &[&str]) -> String {
        said(&mut self.command(arguments))
    }

    /// An image of nothing but folders, for containers that get the machine's own `/usr`.
    pub fn import_machine(&self, image: &str) {
        let root = self.path("machine");
        for name in ["usr", "etc", "tmp", "proc", "sys", "dev", "run", "root", "var/run/postgresql"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).unwrap();
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        self.import(&root, image);
    }

    /// Makes an image of a folder.
    pub fn import(&self, root: &Path, image: &str) {
        let tar = self.path("root.tar");
        said(Command::new(parts::tool("tar")).arg("-C").arg(root).arg("-cf").arg(&tar).arg("."));
        said(self.command(&["import"]).arg(&tar).arg(image));
        std::fs::remove_file(tar).unwrap();
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command(&["rm", "-af", "-t", "0"]).output();
        // Or its layers stay mounted.
        let _ = self.command(&["rmi", "-af"]).output();
    }
}

/// What a command prints; panics with its complaint.
pub fn said(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}
