//! PgBouncer in transaction mode, between whoever connects and a real server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::super::process::{self, Server};
use super::super::{parts, wait_for};
use super::{Cluster, give_to_postgres};

/// A running pooler.
pub struct Pooler {
    pub port: u16,
    process: Server,
    folder: TempDir,
}

impl Pooler {
    /// In front of this server; `ignored` are startup parameters that it drops instead of refusing them.
    pub fn start(cluster: &Cluster, ignored: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let port = process::free_port();
        let ini = format!(
            "[databases]\n* = host={} port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\nignore_startup_parameters = {ignored}\n",
            cluster.sockets().display(),
            cluster.port
        );
        let path = folder.path().join("pgbouncer.ini");
        std::fs::write(&path, ini).unwrap();
        give_to_postgres(&path);
        let start = Server::start(&parts::tool("setpriv"), &folder.path().join("log"), |command| {
            command.env("PATH", "/usr/sbin:/usr/bin:/bin").current_dir("/");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig", "KILL", "--"]);
            command.arg(pgbouncer()).arg(&path);
        });
        let mut pooler = Self { port, process: start.unwrap(), folder };
        wait_for("PgBouncer", Duration::from_secs(60), || {
            assert!(pooler.process.is_running(), "PgBouncer ended:\n{}", pooler.log());
            std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop)
        });
        pooler
    }

    pub fn log(&self) -> String {
        process::log_of(&self.folder.path().join("log"))
    }
}

/// Debian keeps it among the programs of the administrator.
fn pgbouncer() -> std::path::PathBuf {
    let path = Path::new("/usr/sbin/pgbouncer");
    if path.exists() { path.into() } else { parts::tool("pgbouncer") }
}
