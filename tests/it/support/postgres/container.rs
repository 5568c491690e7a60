//! A real container of podman's, without an image from anywhere: empty folders, and the machine's own `/usr` in them.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::super::parts;
use super::{Cluster, packaged};

/// What podman needs where nobody has set it up: no network of its own, limits that a container inside one may have.
const SETTINGS: &str = "[containers]\ndefault_ulimits = [\"nofile=20000:20000\",\"nproc=1000:1000\"]\nnetns = \"host\"\n\
    [engine]\nruntime = \"runc\"\nevents_logger = \"file\"\ncgroup_manager = \"cgroupfs\"\n";

/// A container that runs until it is dropped, and ten minutes at most.
pub struct Container {
    folder: TempDir,
}

impl Container {
    /// As the server's: PostgreSQL's clients on its path, the server's socket where they look for it.
    pub fn of(cluster: &Cluster, user: &str) -> Self {
        let programs = format!("PATH=/usr/lib/postgresql/{}/bin:/usr/bin:/bin", packaged());
        let (user, port) = (format!("POSTGRES_USER={user}"), format!("PGPORT={}", cluster.port));
        let sockets = format!("{}:/var/run/postgresql", cluster.sockets().display());
        Self::start(&[&programs, &user, &port], &[&sockets])
    }

    /// With these variables and mounts.
    pub fn start(environment: &[&str], mounts: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let container = Self { folder };
        std::fs::write(container.settings(), SETTINGS).unwrap();
        let root = container.folder.path().join("root");
        for name in ["usr", "etc", "tmp", "proc", "sys", "dev", "run", "root", "var/run/postgresql"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).unwrap();
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        let tar = container.folder.path().join("root.tar");
        run(Command::new(parts::tool("tar")).arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."));
        run(container.podman(&["import"]).arg(&tar).arg("machine:1"));
        let mut start = container.podman(&["run", "-d", "--name", "it", "-v", "/usr:/usr:ro"]);
        start.args(environment.iter().flat_map(|variable| ["-e", variable]));
        start.args(mounts.iter().flat_map(|mount| ["-v", mount]));
        run(start.args(["machine:1", "sleep", "600"]));
        container
    }

    /// The command that runs another in it, with the standard input passed on.
    pub fn exec(&self) -> Vec<String> {
        self.command(&["exec", "-i", "it"])
    }

    /// The same without the standard input.
    pub fn exec_without_input(&self) -> Vec<String> {
        self.command(&["exec", "it"])
    }

    /// Stops everything in it.
    pub fn stop(&self) {
        run(&mut self.podman(&["stop", "-t", "0", "it"]));
    }

    /// The names of the programs that run in it.
    pub fn programs(&self) -> Vec<String> {
        let output = self.podman(&["top", "it", "comm"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().skip(1).map(|line| line.trim().to_owned()).collect()
    }

    fn settings(&self) -> PathBuf {
        self.folder.path().join("containers.conf")
    }

    fn command(&self, arguments: &[&str]) -> Vec<String> {
        let at = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let settings = format!("CONTAINERS_CONF={}", at("containers.conf"));
        let mut command = vec!["env".to_owned(), settings, parts::tool("podman").to_str().unwrap().to_owned()];
        command.extend(["--root".into(), at("store"), "--runroot".into(), at("run")]);
        command.extend(["--storage-driver", "vfs"].map(String::from));
        command.extend(arguments.iter().map(ToString::to_string));
        command
    }

    fn podman(&self, arguments: &[&str]) -> Command {
        let words = self.command(arguments);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.podman(&["rm", "-f", "-t", "0", "it"]).output();
        // Or its layers stay mounted.
        let _ = self.podman(&["rmi", "-af"]).output();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
