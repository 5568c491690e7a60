//! The real binary, run with a configuration of the test's in a folder of its own.

use std::ffi::OsString;
use std::io::{PipeReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Pid;
pub use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{block_on, runtime, wait_for};

/// Far beyond any deadline that a test configures: reaching it means that the program hangs.
const HANGS: Duration = Duration::from_secs(120);

/// A program about to be run, with its folder. Its environment is empty but for what is set here.
pub struct Idkeep {
    folder: TempDir,
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
    config: Option<PathBuf>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
}

/// A program that runs.
pub struct Running {
    child: Child,
    pid: u32,
    started_at: Instant,
    stdout: Collected,
    stderr: Collected,
}

/// A program that wants to print, and cannot before [`Blocked::release`].
pub struct Blocked {
    running: Running,
    pipe: PipeReader,
    filled: usize,
}

impl Idkeep {
    pub fn new() -> Self {
        Self::of(env!("CARGO_BIN_EXE_idkeep"))
    }

    /// Another program in idkeep's place, for trying these helpers themselves.
    pub fn of(program: impl Into<PathBuf>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), program: program.into(), environment: Vec::new(), config: None }
    }

    /// With this configuration; see [`Idkeep::config`].
    pub fn configured(yaml: &str) -> Self {
        let mut idkeep = Self::new();
        idkeep.config(yaml);
        idkeep
    }

    /// Writes `idkeep.yaml` and names it by `IDKEEP_CONFIG` from now on.
    pub fn config(&mut self, yaml: &str) -> PathBuf {
        let path = self.file("idkeep.yaml", yaml.as_bytes());
        self.config = Some(path.clone());
        path
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file that everybody may read.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A file that its owner alone may read.
    pub fn secret_file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        write_private(&path, bytes);
        path
    }

    pub fn env(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs to the end, however it ends.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.spawn(arguments).wait()
    }

    /// Runs, and panics with everything that was said if the exit code is another.
    pub fn expect(&self, code: i32, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, code, "{arguments:?} ended otherwise\n{outcome}");
        outcome
    }

    /// Runs `sync -o json`, which has to end with that code.
    pub fn sync(&self, code: i32) -> Outcome {
        self.expect(code, &["-o", "json", "sync"])
    }

    pub fn spawn(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped());
        Running::start(command)
    }

    /// Runs with a stdout that takes nothing, and returns once the program waits to print there.
    pub fn spawn_with_blocked_stdout(&self, arguments: &[&str]) -> Blocked {
        let mut blocked = self.spawn_blocked(arguments);
        blocked.wait_to_print();
        blocked
    }

    /// The same, and returns at once.
    pub fn spawn_blocked(&self, arguments: &[&str]) -> Blocked {
        let (pipe, mut into) = std::io::pipe().unwrap();
        // The flag belongs to the pipe's end, which the child shares: it must be gone before the child is there.
        let flags = fcntl_getfl(into.as_fd()).unwrap();
        fcntl_setfl(into.as_fd(), flags | OFlags::NONBLOCK).unwrap();
        let mut filled = 0;
        for size in [4096, 1] {
            while let Ok(more) = into.write(&vec![b'.'; size]) {
                filled += more;
            }
        }
        fcntl_setfl(into.as_fd(), flags).unwrap();
        let mut command = self.command(arguments);
        command.stdout(into);
        Blocked { running: Running::start(command), pipe, filled }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().current_dir(self.folder.path());
        if let Some(config) = &self.config {
            command.env("IDKEEP_CONFIG", config);
        }
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}

impl Running {
    fn start(mut command: Command) -> Self {
        let started_at = Instant::now();
        // A child of tokio's belongs to the runtime that is entered here.
        let _entered = runtime().enter();
        let mut child = command.spawn().unwrap();
        // What the command still holds of the pipes would keep them open for ever.
        drop(command);
        let stdout = Collected::from(child.stdout.take());
        let stderr = Collected::from(child.stderr.take());
        Self { pid: child.id().unwrap(), child, started_at, stdout, stderr }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it said on stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Waits until stderr has this text; panics when the program ends or hangs without it.
    pub fn wait_for_stderr(&self, text: &str) {
        self.stderr.wait_for(text);
    }

    /// Looks at what stderr has so far until that is found there; panics when the program ends or hangs without it.
    pub fn find_in_stderr<T>(&self, what: &str, find: impl FnMut(&str) -> Option<T>) -> T {
        self.stderr.find(what, find)
    }

    pub fn wait_for_stdout(&self, text: &str) {
        self.stdout.wait_for(text);
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end, and panics if it hangs.
    pub fn wait(mut self) -> Outcome {
        let status = block_on(async { tokio::time::timeout(HANGS, self.child.wait()).await });
        let Ok(status) = status else { panic!("still running after {HANGS:?}:\n{}", self.stderr.text()) };
        let elapsed = self.started_at.elapsed();
        Outcome::new(status.unwrap(), self.stdout.rest(), self.stderr.rest(), elapsed)
    }
}

impl Blocked {
    pub fn pid(&self) -> u32 {
        self.running.pid
    }

    /// Waits until it has nothing left to do but to print.
    pub fn wait_to_print(&mut self) {
        let Self { running, .. } = self;
        wait_for("the program to print", HANGS, || {
            if let Some(status) = running.child.try_wait().unwrap() {
                panic!("ended ({status}) without printing:\n{}", running.stderr.text());
            }
            is_writing_to_stdout(running.pid).then_some(())
        });
    }

    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// What it said on stderr; the last words before the report may still be on their way.
    pub fn stderr(&self) -> String {
        self.running.stderr()
    }

    pub fn wait_for_stderr(&self, text: &str) {
        self.running.wait_for_stderr(text);
    }

    /// Lets it print, and waits for its end.
    pub fn release(self) -> Outcome {
        let Self { running, mut pipe, filled } = self;
        let reading = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[filled..]).into_owned()
        });
        let outcome = running.wait();
        Outcome { stdout: reading.join().unwrap(), ..outcome }
    }
}

impl Outcome {
    fn new(status: ExitStatus, stdout: String, stderr: String, elapsed: Duration) -> Self {
        Self { code: status.code().unwrap_or(-1), signal: status.signal(), stdout, stderr, elapsed }
    }

    /// stdout as the one JSON document that it has to be.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON on stdout: {error}\n{self}"))
    }

    /// stdout and stderr, to look for what may be in neither.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, signal, stdout, stderr, elapsed } = self;
        write!(f, "exit code {code}, signal {signal:?}, after {elapsed:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// Writes a file with mode 0600.
pub fn write_private(path: &Path, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// What a pipe has given so far, read all the time so that the program never waits for us.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    length: watch::Receiver<usize>,
    reading: JoinHandle<()>,
}

impl Collected {
    fn from(pipe: Option<impl tokio::io::AsyncRead + Unpin + Send + 'static>) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let (progress, length) = watch::channel(0);
        let shared = bytes.clone();
        let reading = runtime().spawn(async move {
            let Some(mut pipe) = pipe else { return };
            let mut buffer = vec![0; 16 << 10];
            while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
                shared.lock().unwrap().extend_from_slice(&buffer[..read]);
                progress.send_modify(|length| *length += read);
            }
        });
        Self { bytes, length, reading }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// Everything, once the other end is closed.
    fn rest(self) -> String {
        let Self { bytes, reading, .. } = self;
        // A grandchild may hold the pipe open; what it would say is not waited for.
        let _ = block_on(async { tokio::time::timeout(Duration::from_secs(5), reading).await });
        String::from_utf8_lossy(&bytes.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, wanted: &str) {
        self.find(wanted, |text| text.contains(wanted).then_some(()));
    }

    fn find<T>(&self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let mut length = self.length.clone();
        let mut found = None;
        let waiting = async {
            let looking = length.wait_for(|_| {
                found = find(&self.text());
                found.is_some()
            });
            looking.await.is_ok()
        };
        let came = block_on(async { tokio::time::timeout(HANGS, waiting).await });
        assert!(matches!(came, Ok(true)), "{what:?} did not come:\n{}", self.text());
        found.unwrap()
    }
}

fn is_writing_to_stdout(pid: u32) -> bool {
    is_writing_to(pid, 1)
}

/// Whether one of its threads waits in write(2) or writev(2) to this descriptor.
pub fn is_writing_to(pid: u32, descriptor: u8) -> bool {
    let (write, writev) = if cfg!(target_arch = "aarch64") { ("64", "66") } else { ("1", "20") };
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let calls = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("syscall")).ok());
    calls.into_iter().any(|call| {
        let mut words = call.split_whitespace();
        let number = words.next();
        let is_write = number == Some(write) || number == Some(writev);
        is_write && words.next().is_some_and(|word| word == format!("{descriptor:#x}"))
    })
}
