//! One `pg_dump` under way. It is whole only when `finish` has seen it end well.

use std::io::PipeReader;
use std::process::Stdio;

use rustix::pipe::fcntl_setpipe_size;

use super::child::Process;
use super::target::{Program, Target};
use super::{Cause, Error, Snapshot};

/// Bytes that the pipe holds, so that writer and reader wait for each other less often.
const PIPE: usize = 1024 * 1024;

/// A dump that is being written; dropped, it is killed.
pub struct Dump {
    process: Process,
    stdout: Option<PipeReader>,
    at: String,
}

impl Dump {
    /// Starts dumping exactly this snapshot, in the custom format, without compression.
    pub async fn start(target: &Target, application_name: &str, snapshot: &Snapshot) -> Result<Self, Error> {
        let mark = format!("{:016x}", fastrand::u64(..));
        let mut command = target.connecting(Program::PgDump, application_name, &mark).await?;
        command.args(["-Fc", "-Z0", "--lock-wait-timeout=60s"]).arg(format!("--snapshot={}", snapshot.id));
        let start = |source| Error::Start { program: "pg_dump".into(), source };
        let (reader, writer) = std::io::pipe().map_err(start)?;
        // A smaller pipe does as well, only slower.
        let _ = fcntl_setpipe_size(&reader, PIPE);
        command.stdin(Stdio::null()).stdout(writer);
        // The command, and with it our copy of the writing end, is gone when this returns.
        let process = Process::start(command)?;
        Ok(Self { process, stdout: Some(reader), at: target.at().to_owned() })
    }

    /// What it writes, for a thread that reads to its end; there once.
    pub fn stdout(&mut self) -> Option<PipeReader> {
        self.stdout.take()
    }

    /// The client's process, for those who watch it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Waits for its end. Somebody has to read meanwhile.
    pub async fn finish(mut self) -> Result<(), Error> {
        // If nobody has taken it, nobody reads it.
        drop(self.stdout.take());
        let ended = self.process.ended().await;
        if ended.is_success {
            return Ok(());
        }
        Err(self.refused(ended.cause))
    }

    /// Kills the client. In a container its work goes on: [`super::end`] ends that.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    fn refused(&self, cause: Cause) -> Error {
        Error::Refused { doing: "dumping", at: self.at.clone(), cause }
    }
}
