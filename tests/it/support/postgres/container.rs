//! A real container of podman's, without an image from anywhere: empty folders, and the machine's own `/usr` in them.

use super::super::podman::{Podman, said};
use super::{Cluster, packaged};

/// A container that runs until it is dropped, and ten minutes at most.
pub struct Container {
    podman: Podman,
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
        let podman = Podman::new();
        podman.import_machine("machine:1");
        let mut start = podman.command(&["run", "-d", "--name", "it", "-v", "/usr:/usr:ro"]);
        start.args(environment.iter().flat_map(|variable| ["-e", variable]));
        start.args(mounts.iter().flat_map(|mount| ["-v", mount]));
        said(start.args(["machine:1", "sleep", "600"]));
        Self { podman }
    }

    /// The command that runs another in it, with the standard input passed on.
    pub fn exec(&self) -> Vec<String> {
        self.podman.words(&["exec", "-i", "it"])
    }

    /// The same without the standard input.
    pub fn exec_without_input(&self) -> Vec<String> {
        self.podman.words(&["exec", "it"])
    }

    /// Stops everything in it.
    pub fn stop(&self) {
        self.podman.must(&["stop", "-t", "0", "it"]);
    }

    /// The names of the programs that run in it.
    pub fn programs(&self) -> Vec<String> {
        let output = self.podman.command(&["top", "it", "comm"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().skip(1).map(|line| line.trim().to_owned()).collect()
    }
}
