//! Servers of others, as child processes that cannot outlive the tests.

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};

/// A running server; killed when dropped, and by the kernel when the test process ends in any way.
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts `program`. Its output goes to `log`, but for stdout if `stdout` is piped.
    pub fn start(program: &Path, log: &Path, configure: impl FnOnce(&mut Command)) -> io::Result<Self> {
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        // `--pdeathsig` covers servers held in statics, and a test process that is itself killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command.env_clear().stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        configure(&mut command);
        Ok(Self { child: spawn(command)? })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The first line of a piped stdout, or nothing if the server ended without one.
    pub fn first_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let mut stdout = BufReader::new(self.child.stdout.take()?);
        stdout.read_line(&mut line).ok()?;
        self.child.stdout = Some(stdout.into_inner());
        (!line.is_empty()).then(|| line.trim_end().to_owned())
    }

    /// Stops it where it is: whoever is connected waits.
    pub fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A loopback port that was free a moment ago and that nobody else here was given.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut given = GIVEN.lock().unwrap();
        if !given.contains(&port) {
            given.push(port);
            return port;
        }
    }
}

/// What a server logged, for the message of a test that fails.
pub fn log_of(path: &PathBuf) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

type Order = (Command, Sender<io::Result<Child>>);

/// The parent-death signal comes when the *thread* that started the child ends, and a test's thread ends with its
/// test; so one thread that never ends starts them all.
fn spawn(command: Command) -> io::Result<Child> {
    static ORDERS: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in receiver {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, answer) = channel();
    orders.lock().unwrap().send((command, reply)).unwrap();
    answer.recv().unwrap()
}
