//! A client program under way: its own process group, an environment of a few known variables, words that are kept
//! only to be classified.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::password::{self, Trouble};
use super::{Cause, Error};

/// Of what a program says on its standard error, the last so many bytes are looked through.
const MAX_WORDS: usize = 32 * 1024;

/// How long the last words of a program that has ended may take: a grandchild may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A fixed path: ours may name folders that anybody may write to.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the command-line clients of container engines need of our environment, and no more.
const FOR_EXEC: [&str; 13] = [
    "PATH",
    "HOME",
    "KUBECONFIG",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "XDG_RUNTIME_DIR",
    "CONTAINERS_CONF",
    "CONTAINER_HOST",
];

/// A program that runs; killed with its whole group when dropped.
pub(super) struct Process {
    child: Child,
    words: Words,
}

/// How a program ended.
pub(super) struct Ended {
    pub(super) is_success: bool,
    pub(super) cause: Cause,
}

/// The command for a program that knows nothing of this machine but what is set here.
pub(super) fn direct(program: &std::path::Path) -> Command {
    let mut command = Command::new(program);
    // libpq looks into the home folder for passwords, keys and certificates; unset, it would ask the user database.
    command.env_clear().env("PATH", PATH).env("HOME", "/nonexistent").env("LC_ALL", "C");
    command
}

/// The command for a program in a container, by a prefix.
pub(super) fn inside(prefix: &[String], program: &str) -> Command {
    let (first, rest) = prefix.split_first().map_or((program, &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut command = Command::new(first);
    command.args(rest);
    if !prefix.is_empty() {
        command.arg(program);
    }
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C");
    for name in FOR_EXEC {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Lets the child, and nobody else, read the password.
pub(super) fn hand_over(command: &mut Command, password: &SecretString, at: &str) -> Result<(), Error> {
    let at = || at.to_owned();
    let file = password::file(password).map_err(|trouble| match trouble {
        Trouble::Shape => Error::PasswordShape { at: at() },
        Trouble::Kernel => Error::PasswordFile { at: at() },
    })?;
    let mapping = FdMapping { parent_fd: file, child_fd: password::FD };
    command.fd_mappings(vec![mapping]).map_err(|_| Error::PasswordFile { at: at() })?;
    command.env("PGPASSFILE", password::PATH);
    Ok(())
}

impl Process {
    /// Starts it; standard input and output are as the command says.
    pub(super) fn start(mut command: Command) -> Result<Self, Error> {
        command.stderr(Stdio::piped()).kill_on_drop(true);
        // A signal to the terminal's group is for idkeep, which then decides what becomes of the child.
        command.process_group(0);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(|source| Error::Start { program, source })?;
        let words = Words::of(child.stderr.take());
        Ok(Self { child, words })
    }

    pub(super) fn pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>) {
        (self.child.stdin.take(), self.child.stdout.take())
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it with everything that it started. What runs in a container lives on.
    pub(super) fn kill(&mut self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> Ended {
        let status = self.child.wait().await.ok();
        let words = self.words.all().await;
        let is_unread = status.is_some_and(|status| status.signal() == Some(Signal::PIPE.as_raw()));
        let code = status.and_then(|status| status.code());
        let cause = if is_unread { Cause::Unread } else { Cause::of(&words, code) };
        Ended { is_success: status.is_some_and(|status| status.success()), cause }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last words of a program.
struct Words {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    /// Nothing once it has ended: a task is asked for its end only once.
    reading: Option<JoinHandle<()>>,
}

impl Words {
    fn of(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        let bytes = Arc::<Mutex<VecDeque<u8>>>::default();
        let shared = Arc::clone(&bytes);
        let reading = tokio::spawn(async move {
            let Some(mut pipe) = pipe else { return };
            let mut buffer = vec![0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
                let mut bytes = shared.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.extend(&buffer[..read]);
                let excess = bytes.len().saturating_sub(MAX_WORDS);
                bytes.drain(..excess);
            }
        });
        Self { bytes, reading: Some(reading) }
    }

    async fn all(&mut self) -> String {
        if let Some(reading) = &mut self.reading
            && tokio::time::timeout(LAST_WORDS, reading).await.is_ok()
        {
            self.reading = None;
        }
        let bytes: Vec<u8> = self.bytes.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.abort();
        }
    }
}
