//! A real PostgreSQL, started for the tests, with the databases of a validator and of a participant in it.

pub mod client;
pub mod container;
pub mod pooler;
pub mod schema;
pub mod writer;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ::idkeep::config;
use serde_json::{Value, json};
use tempfile::TempDir;

// The benches need less of it.
#[allow(unused_imports)]
pub use {
    client::Client,
    schema::{Network, Store},
    writer::Writer,
};

use super::idkeep::write_private;
use super::pki::Identity;
use super::process::{self, Server};
use super::{parts, wait_for};

/// Starting takes 0.2 s on an idle machine; a busy one may need far longer.
const START: Duration = Duration::from_secs(60);

/// The role that backups use, as `idkeep policy postgres` would render it.
pub const ROLE: &str = "idkeep_backup";

/// The oldest and the newest major versions that the network uses.
pub const OLDEST: u32 = 14;
pub const NEWEST: u32 = 18;

/// A running server. Its own superuser needs no password on the socket; over TCP everybody does.
pub struct Cluster {
    pub port: u16,
    pub major: u32,
    /// The password of [`ROLE`], with characters that a password file has to escape.
    pub password: String,
    process: Server,
    folder: TempDir,
}

/// How a server is started.
#[derive(Default)]
struct Plan {
    settings: String,
    tls: Option<(PathBuf, PathBuf)>,
}

impl Cluster {
    /// Debian's own version.
    pub fn packaged() -> Self {
        Self::start(packaged())
    }

    /// A major version: [`packaged`]'s, [`OLDEST`], 16 or [`NEWEST`].
    pub fn start(major: u32) -> Self {
        Self::prepare(major, Plan::default())
    }

    /// With this certificate: connections over TCP have to use TLS.
    pub fn tls(identity: &Identity) -> Self {
        let tls = Some((identity.certificate_file.clone(), identity.key_file.clone()));
        Self::prepare(packaged(), Plan { tls, ..Plan::default() })
    }

    /// With lines of `postgresql.conf` of the test's own.
    pub fn with_settings(settings: &str) -> Self {
        Self::prepare(packaged(), Plan { settings: settings.to_owned(), ..Plan::default() })
    }

    fn prepare(major: u32, plan: Plan) -> Self {
        let folder = fast_folder();
        open_up(folder.path(), 0o755);
        let data = folder.path().join("data");
        let sockets = folder.path().join("s");
        for folder in [&data, &sockets] {
            std::fs::create_dir(folder).unwrap();
            give_to_postgres(folder);
        }
        let programs = programs(major, folder.path());
        let mut initdb = as_postgres(&programs.join("bin/initdb"));
        initdb.env("LD_LIBRARY_PATH", programs.join("lib"));
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C"]);
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
        run(&mut initdb);
        if let Some((certificate, key)) = &plan.tls {
            for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
                std::fs::copy(from, data.join(name)).unwrap();
                open_up(&data.join(name), 0o600);
                give_to_postgres(&data.join(name));
            }
            let hba = "local all all trust\nhostssl all all all scram-sha-256\nlocal replication all trust\n";
            std::fs::write(data.join("pg_hba.conf"), hba).unwrap();
        }
        let mut settings = settings(&plan, &sockets);
        settings.push_str(&plan.settings);
        let path = data.join("postgresql.auto.conf");
        std::fs::write(&path, settings).unwrap();
        give_to_postgres(&path);
        let password = format!("pw:\\'{:016x}", fastrand::u64(..));
        let cluster = Self::launch(major, folder, password);
        let quoted = cluster.password.replace('\'', "''");
        cluster.sql("postgres", &format!("create role {ROLE} login password '{quoted}'"));
        cluster.sql("postgres", &format!("grant pg_read_all_data to {ROLE}"));
        cluster.secret_file();
        cluster
    }

    /// Starts the server over what is in the folder's `data`.
    fn launch(major: u32, folder: TempDir, password: String) -> Self {
        for last in [false, false, false, true] {
            let port = process::free_port();
            let mut process = serve(major, folder.path(), port);
            let probe = Client::command(major, &folder.path().join("s"), port, "postgres");
            let is_up = wait_for("PostgreSQL", START, || {
                if !process.is_running() {
                    return Some(false);
                }
                is_ok(&probe).then_some(true)
            });
            if is_up {
                return Self { port, major, password, process, folder };
            }
            // Somebody else may have taken the port in between; anything else fails in the same way again.
            assert!(!last, "PostgreSQL did not start:\n{}", process::log_of(&folder.path().join("log")));
        }
        unreachable!()
    }

    /// A standby of this server that replays what it writes as it comes.
    pub fn standby(&self) -> Self {
        let folder = fast_folder();
        open_up(folder.path(), 0o755);
        let sockets = folder.path().join("s");
        std::fs::create_dir(&sockets).unwrap();
        give_to_postgres(folder.path());
        give_to_postgres(&sockets);
        let mut copy = as_postgres(&binary(self.major, "pg_basebackup"));
        copy.arg("-D").arg(folder.path().join("data")).args(["-R", "-c", "fast", "--no-sync", "-U", "postgres", "-h"]);
        copy.arg(self.sockets()).args(["-p", &self.port.to_string()]);
        run(&mut copy);
        let path = folder.path().join("data/postgresql.auto.conf");
        let mut written = std::fs::read_to_string(&path).unwrap();
        let _ = writeln!(written, "unix_socket_directories = '{}'", sockets.display());
        std::fs::write(&path, written).unwrap();
        let standby = Self::launch(self.major, folder, self.password.clone());
        standby.secret_file();
        standby
    }

    /// Keeps a standby where it is.
    pub fn pause_replay(&self) {
        self.sql("postgres", "select pg_wal_replay_pause()");
        wait_for("replay to pause", START, || {
            (self.sql("postgres", "select pg_get_wal_replay_pause_state()") == "paused").then_some(())
        });
    }

    pub fn resume_replay(&self) {
        self.sql("postgres", "select pg_wal_replay_resume()");
    }

    /// Ends the server at once; its address refuses connections from then on.
    pub fn stop(&mut self) {
        signal(self.process.pid(), rustix::process::Signal::QUIT);
        wait_for("PostgreSQL to end", START, || (!self.process.is_running()).then_some(()));
    }

    /// Starts it again at the same address, after [`Cluster::stop`].
    pub fn restart(&mut self) {
        self.process = serve(self.major, self.folder.path(), self.port);
        let probe = Client::command(self.major, &self.sockets(), self.port, "postgres");
        wait_for("PostgreSQL", START, || is_ok(&probe).then_some(()));
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Runs SQL as the superuser and returns what it says, one row a line, columns parted by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut command = Client::command(self.major, &self.sockets(), self.port, database);
        command.args(["-v", "ON_ERROR_STOP=1", "-c", sql]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Restores a dump into a new database, as any operator would.
    pub fn restore(&self, dump: &[u8], database: &str) {
        self.sql("postgres", &format!("create database \"{database}\""));
        let mut command = Command::new(client_binary(self.major, "pg_restore"));
        command.env_clear().args(["--exit-on-error", "-U", "postgres", "-h"]).arg(self.sockets());
        command.args(["-p", &self.port.to_string(), "-d", database]);
        let path = self.folder.path().join(format!("{database}.dump"));
        std::fs::write(&path, dump).unwrap();
        run(command.arg(&path));
    }

    /// A session of the superuser's that stays open.
    pub fn client(&self, database: &str) -> Client {
        Client::start(Client::command(self.major, &self.sockets(), self.port, database))
    }

    /// What the server holds of sessions by names that begin so, in any database.
    pub fn sessions(&self, application: &str) -> usize {
        let sql = format!("select count(*) from pg_stat_activity where starts_with(application_name, '{application}')");
        self.sql("postgres", &sql).parse().unwrap()
    }

    pub fn sockets(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn log(&self) -> String {
        process::log_of(&self.folder.path().join("log"))
    }

    /// A file with the password of [`ROLE`].
    pub fn secret_file(&self) -> PathBuf {
        let path = self.folder.path().join("password");
        write_private(&path, self.password.as_bytes());
        path
    }

    /// Its address for [`ROLE`] over TCP.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{ROLE}@127.0.0.1:{}/{database}", self.port)
    }

    /// Its address on the socket.
    pub fn socket_url(&self, user: &str, database: &str) -> String {
        format!("postgres:///{database}?user={user}&host={}&port={}", self.sockets().display(), self.port)
    }

    /// A database as the configuration says it, over TCP with a password, by clients that can dump this server.
    pub fn database(&self, name: &str, role: &str, database: &str) -> config::Database {
        self.database_at(name, role, &self.url(database))
    }

    /// The same at another address.
    pub fn database_at(&self, name: &str, role: &str, url: &str) -> config::Database {
        let pg_dump = json!({
            "url": url, "password": {"file": self.secret_file()}, "binary": client_binary(self.major, "pg_dump"),
        });
        configured(json!({"name": name, "role": role, "pg_dump": pg_dump}))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Killed outright, it would leave a segment of shared memory behind.
        if self.process.is_running() {
            self.stop();
        }
    }
}

/// A database of the configuration, as YAML or JSON would say it.
pub fn configured(database: Value) -> config::Database {
    serde_json::from_value(database).unwrap()
}

/// In memory where there is room: a cluster is some 40 MB in a thousand files.
fn fast_folder() -> TempDir {
    let room = rustix::fs::statvfs("/dev/shm").map_or(0, |shm| shm.f_bavail * shm.f_frsize);
    let folder = if room > 4 << 30 { tempfile::tempdir_in("/dev/shm") } else { tempfile::tempdir() };
    folder.unwrap()
}

/// The newest major version that the system's packages brought.
pub fn packaged() -> u32 {
    let majors = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = majors.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max();
    newest.expect("/usr/lib/postgresql is missing: run ./dev parts")
}

/// A program of that major version, such as `postgres`.
pub fn binary(major: u32, name: &str) -> PathBuf {
    let packaged = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin/{name}"));
    if packaged.exists() { packaged } else { parts::postgresql(major).join("bin").join(name) }
}

/// A client program that can dump a server of that major version.
pub fn client_binary(major: u32, name: &str) -> PathBuf {
    let majors = [major, packaged(), NEWEST];
    let fitting = majors.into_iter().filter(|client| *client >= major).map(|client| binary(client, name));
    let mut fitting = fitting.filter(|path| path.exists());
    fitting.next().unwrap_or_else(|| panic!("no {name} for {major}: run ./dev parts"))
}

/// The server refuses to run as root.
pub fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
    command
}

pub fn give_to_postgres(path: &Path) {
    run(Command::new("chown").arg("postgres:postgres").arg(path));
}

/// A key pair that is signed for, in a folder that `postgres` may not read, is copied; this is for the rest.
fn open_up(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn settings(plan: &Plan, sockets: &Path) -> String {
    let mut settings = format!(
        "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\nfull_page_writes = off\n\
         wal_level = replica\nmax_wal_senders = 4\nmax_connections = 60\nshared_buffers = 64MB\n\
         autovacuum = off\njit = off\ndynamic_shared_memory_type = mmap\n",
        sockets.display()
    );
    if plan.tls.is_some() {
        settings.push_str("ssl = on\n");
    }
    settings
}

/// Where `postgres` finds its own programs. It may not look into the folder of the parts, which may be in a home.
fn programs(major: u32, folder: &Path) -> PathBuf {
    let packaged = PathBuf::from(format!("/usr/lib/postgresql/{major}"));
    if packaged.exists() {
        return packaged;
    }
    let copy = folder.join("programs");
    if !copy.exists() {
        std::fs::create_dir(&copy).unwrap();
        run(Command::new("cp").arg("-a").arg(parts::postgresql(major).join(".")).arg(&copy));
    }
    copy
}

fn serve(major: u32, folder: &Path, port: u16) -> Server {
    let programs = programs(major, folder);
    let start = Server::start(&parts::tool("setpriv"), &folder.join("log"), |command| {
        command.env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
        // A change of user forgets the parent-death signal: it is asked for again.
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig", "QUIT", "--"]);
        command.arg(programs.join("bin/postgres")).arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
        command.env("LD_LIBRARY_PATH", programs.join("lib"));
    });
    start.unwrap_or_else(|error| panic!("PostgreSQL: {error}"))
}

fn is_ok(probe: &Command) -> bool {
    let mut command = Command::new(probe.get_program());
    command.args(probe.get_args()).env_clear().args(["-c", "select 1"]);
    command.output().is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}
