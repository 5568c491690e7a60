//! `psql` as a session that stays open, for what a test does to a database meanwhile.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::client_binary;

/// What ends an answer.
const END: &str = "-- end of the answer --";

/// A session of the superuser's.
pub struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    /// `psql` by the socket.
    pub fn command(major: u32, sockets: &Path, port: u16, database: &str) -> Command {
        let mut command = Command::new(client_binary(major, "psql"));
        command.env_clear().env("LC_ALL", "C").env("HOME", "/nonexistent");
        command.args(["-X", "-q", "-A", "-t", "-U", "postgres", "-h"]).arg(sockets);
        // Or a name that holds a `=` would be taken for more than a name.
        let database = database.replace('\\', "\\\\").replace('\'', "\\'");
        command.args(["-p", &port.to_string(), "-d", &format!("dbname='{database}'")]);
        command
    }

    pub fn start(mut command: Command) -> Self {
        command.args(["-v", "ON_ERROR_STOP=0"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    /// Runs it and returns its rows.
    pub fn run(&mut self, sql: &str) -> Vec<String> {
        self.send(sql);
        self.rows()
    }

    /// Sends it, without waiting for an answer, which may never come.
    pub fn send(&mut self, sql: &str) {
        writeln!(self.stdin, "{sql};\n\\echo {END}").unwrap();
        self.stdin.flush().unwrap();
    }

    /// The rows of what was sent.
    pub fn rows(&mut self) -> Vec<String> {
        let mut rows = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "psql ended");
            let line = line.trim_end();
            if line == END {
                return rows;
            }
            if !line.is_empty() {
                rows.push(line.to_owned());
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
