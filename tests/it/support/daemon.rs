//! `idkeep run`: the daemon with its log, its HTTP answers and its metrics.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Answer, Client};
use super::idkeep::{Idkeep, Outcome, Running, Signal};
use super::metrics::Metrics;
use super::{poll, wait_for};

/// Far beyond what anything here takes: reaching it means that the daemon hangs.
const LONG: Duration = Duration::from_secs(60);

/// What it promises its supervisor.
const TO_END: Duration = Duration::from_secs(25);

/// A daemon that listens; killed when dropped.
pub struct Daemon {
    running: Running,
    pub address: SocketAddr,
    client: Client,
}

/// A line of its log.
#[derive(Clone, Debug)]
pub struct Event(pub Value);

impl Daemon {
    /// Runs the configuration, whose `server.listen` should ask for a port that is free, and waits until it listens.
    pub fn start(idkeep: &Idkeep) -> Self {
        Self::start_with(idkeep, &["--log-level", "debug"])
    }

    pub fn start_with(idkeep: &Idkeep, arguments: &[&str]) -> Self {
        Self::of(idkeep.spawn(&[&["--log-format", "json"], arguments, &["run"]].concat()))
    }

    /// One that was started in another way, with its log in JSON.
    pub fn of(running: Running) -> Self {
        let address = running.find_in_stderr("listening", |said| {
            let listening = events(said).into_iter().find(|event| event.is("listening"))?;
            Some(listening.text("address").parse().unwrap())
        });
        Self { running, address, client: Client::new(None) }
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path)
    }

    pub fn send(&self, method: &str, path: &str) -> Answer {
        let answer = self.client.send(method, &self.url(path), &[], None);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error:?}\n{}", self.running.stderr()))
    }

    /// Sends these very bytes and returns whatever comes until the other side closes, which it has to.
    pub fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.set_read_timeout(Some(LONG)).unwrap();
        // It may answer, and close, before it has read everything.
        let _ = stream.write_all(request).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            answer.extend_from_slice(&buffer[..read]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    pub fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.text());
        Metrics::parse(&answer.text()).unwrap_or_else(|error| panic!("{error}\n---\n{}", answer.text()))
    }

    /// Asks for the metrics until that is found there.
    pub fn wait_for_metrics<T>(&self, what: &str, mut find: impl FnMut(&Metrics) -> Option<T>) -> T {
        let started = Instant::now();
        poll(what, LONG * 2, Duration::from_millis(25), || {
            let metrics = self.metrics();
            let found = find(&metrics);
            let is_late = found.is_none() && started.elapsed() >= LONG;
            assert!(!is_late, "{what}: not within {LONG:?}\n{}\n{}", metrics.text, self.log());
            found
        })
    }

    /// Waits until so many of a node's passes ended in one of these outcomes.
    pub fn wait_for_passes(&self, node: &str, outcomes: &[&str], count: u64) -> Metrics {
        self.wait_for_metrics(&format!("{count} passes of {node} that end in {outcomes:?}"), |metrics| {
            (passes(metrics, node, outcomes) >= count).then_some(())
        });
        self.metrics()
    }

    /// Waits until `/readyz` says this status, and returns the rest of what it says.
    pub fn wait_for_readyz(&self, query: &str, status: u16) -> String {
        let path = format!("/readyz{query}");
        wait_for(&format!("{path} to be {status}"), LONG, || {
            let answer = self.get(&path);
            (answer.status == status).then(|| answer.text())
        })
    }

    /// Everything that it logged so far.
    pub fn log(&self) -> String {
        self.running.stderr()
    }

    pub fn events(&self) -> Vec<Event> {
        events(&self.log())
    }

    /// How many lines have this message.
    pub fn count(&self, message: &str) -> usize {
        self.events().iter().filter(|event| event.is(message)).count()
    }

    /// Waits for a line of the log.
    pub fn wait_for_event(&self, what: &str, mut is: impl FnMut(&Event) -> bool) -> Event {
        self.running.find_in_stderr(what, |said| events(said).into_iter().find(|event| is(event)))
    }

    /// Waits until that is found in what it logged.
    pub fn find_in_log<T>(&self, what: &str, find: impl FnMut(&str) -> Option<T>) -> T {
        self.running.find_in_stderr(what, find)
    }

    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// SIGHUP, and the reload that it brings, counted by the outcome it must have: `done` or `failed`.
    pub fn reload(&self, outcome: &str) {
        let reloads = |metrics: &Metrics| metrics.count("idkeep_config_reload_total", &[("outcome", outcome)]);
        let before = reloads(&self.metrics());
        self.signal(Signal::HUP);
        self.wait_for_metrics(&format!("a reload that is {outcome}"), |metrics| {
            (reloads(metrics) > before).then_some(())
        });
    }

    pub fn is_running(&mut self) -> bool {
        self.running.is_running()
    }

    /// Files, sockets and whatever else it holds open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Its resident memory in KiB.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// SIGTERM: it ends with 0, and in time.
    pub fn stop(self) -> Outcome {
        self.stop_by(Signal::TERM)
    }

    pub fn stop_by(self, signal: Signal) -> Outcome {
        let told_at = Instant::now();
        self.running.signal(signal);
        let outcome = self.running.wait();
        assert!(told_at.elapsed() < TO_END, "it took {:?} to end\n{outcome}", told_at.elapsed());
        assert_eq!(outcome.code, 0, "{outcome}");
        events(&outcome.stderr);
        outcome
    }

    /// Without being asked.
    pub fn kill(self) {
        self.running.signal(Signal::KILL);
        self.running.wait();
    }
}

impl Event {
    pub fn is(&self, message: &str) -> bool {
        self.0["message"] == message
    }

    /// A field as text; empty if it is not there.
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    pub fn says(&self, text: &str) -> bool {
        self.text("message").contains(text) || self.text("error").contains(text)
    }
}

/// How many of a node's passes ended in one of these outcomes.
pub fn passes(metrics: &Metrics, node: &str, outcomes: &[&str]) -> u64 {
    let count = |outcome: &&str| metrics.count("idkeep_sync_total", &[("node", node), ("outcome", outcome)]);
    outcomes.iter().map(count).sum()
}

/// Every way in which a pass can end.
pub const ENDED: &[&str] = &["written", "unchanged", "repaired", "failed"];

/// The ways in which it can end well.
pub const WELL: &[&str] = &["written", "unchanged", "repaired"];

/// The whole lines of a log, each of which has to be JSON.
fn events(said: &str) -> Vec<Event> {
    let whole = said.rfind('\n').map_or("", |end| &said[..end]);
    let read = |line: &str| Event(serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{said}")));
    whole.lines().map(read).collect()
}
