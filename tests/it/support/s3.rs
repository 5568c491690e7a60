//! A real S3 server (moto), and a relay in front of it that remembers requests and can spoil them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use idkeep::backup::repository::{Environment, Repository};
use tempfile::TempDir;

use super::client::{Answer, Client};
use super::process::{self, Server};
use super::server::{self, Reply, Seen};
use super::{parts, wait_for};

/// Starting takes a second on an idle machine; a busy one may need far longer.
const START: Duration = Duration::from_secs(120);

/// A running server.
pub struct S3 {
    pub address: SocketAddr,
    client: Client,
    process: Server,
    folder: TempDir,
}

impl S3 {
    pub fn start() -> Self {
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let port = process::free_port();
            let log = folder.path().join("moto.log");
            let process = Server::start(&parts::moto_server(), &log, |command| {
                command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
                command.env("HOME", folder.path()).env("PATH", "/usr/bin:/bin").current_dir(folder.path());
            });
            let process = process.unwrap_or_else(|error| panic!("moto: {error}"));
            let mut s3 =
                Self { address: SocketAddr::from(([127, 0, 0, 1], port)), client: Client::new(None), process, folder };
            if s3.is_up() {
                return s3;
            }
        }
        panic!("moto did not start")
    }

    /// One server for all tests that each use a bucket of their own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<S3> = OnceLock::new();
        SHARED.get_or_init(|| apart(Self::start))
    }

    fn is_up(&mut self) -> bool {
        wait_for("moto", START, || {
            if !self.process.is_running() {
                return Some(false);
            }
            self.client.get(&self.endpoint()).is_ok().then_some(true)
        })
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn log(&self) -> String {
        process::log_of(&self.folder.path().join("moto.log"))
    }

    /// A new bucket that nobody else uses.
    pub fn bucket(&'static self) -> Bucket {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("bucket-{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let bucket = Bucket { s3: self, name };
        assert_eq!(bucket.ask("PUT", "", None).status, 200, "{}", self.log());
        bucket
    }
}

/// A bucket, looked at beside idkeep.
pub struct Bucket {
    pub s3: &'static S3,
    pub name: String,
}

impl Bucket {
    /// A request of our own; usable inside any runtime.
    pub fn ask(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Answer {
        let url = format!("{}/{}{path}", self.s3.endpoint(), self.name);
        let client = self.s3.client.clone();
        // moto looks whether a request is signed, not how.
        let signed = ("authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request");
        apart(|| client.send(method, &url, &[signed], body).unwrap())
    }

    /// The keys of all objects.
    pub fn keys(&self) -> Vec<String> {
        tags(&self.ask("GET", "?list-type=2", None).text(), "Key")
    }

    /// The keys of uploads that were begun and neither completed nor aborted.
    pub fn uploads(&self) -> Vec<String> {
        tags(&self.ask("GET", "?uploads", None).text(), "Key")
    }

    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        let answer = self.ask("GET", &format!("/{key}"), None);
        (answer.status == 200).then_some(answer.body)
    }

    pub fn put(&self, key: &str, bytes: &[u8]) {
        assert_eq!(self.ask("PUT", &format!("/{key}"), Some(bytes.to_vec())).status, 200);
    }

    /// The configuration of a repository in it, `more` added as further keys.
    pub fn config(&self, endpoint: &str, more: serde_json::Value) -> idkeep::config::Repository {
        let mut config = serde_json::json!({
            "url": format!("s3://{}/prefix", self.name), "endpoint": endpoint, "allow_http": true,
        });
        config.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        serde_json::from_value(config).unwrap()
    }

    /// A repository in it.
    pub fn repository(&self) -> Repository {
        self.repository_at(&self.s3.endpoint())
    }

    /// The same, reached at another address.
    pub fn repository_at(&self, endpoint: &str) -> Repository {
        let config = self.config(endpoint, serde_json::json!({"lock_expiry": "1s"}));
        Repository::open_with("dr", &config, &credentials()).unwrap()
    }
}

/// What the environment of an operator would say.
pub fn credentials() -> Box<Environment> {
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Box::new([variable("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), variable("AWS_SECRET_ACCESS_KEY", "synthetic")])
}

/// What stands in these tags of a document.
fn tags(document: &str, tag: &str) -> Vec<String> {
    let opening = format!("<{tag}>");
    document.split(&opening).skip(1).map(|part| part.split('<').next().unwrap().to_owned()).collect()
}

/// A relay in front of a server. `judge` may answer in its place, or change the request.
pub fn relay(to: SocketAddr, judge: impl Fn(&mut Seen) -> Option<Reply> + Send + Sync + 'static) -> server::Server {
    let judge = Arc::new(judge);
    let client = Client::new(None);
    server::Server::plain(move |mut seen| {
        let (judge, client) = (judge.clone(), client.clone());
        async move {
            // A request that was cut short goes no further.
            if !is_whole(&seen) {
                return Reply::empty(400);
            }
            match judge(&mut seen) {
                Some(reply) => reply,
                None => forward(&client, to, seen).await,
            }
        }
    })
}

/// Whether the body is as long as its head says.
pub fn is_whole(seen: &Seen) -> bool {
    seen.header("content-length").is_none_or(|length| length.parse() == Ok(seen.body.len()))
}

/// Passes a request on, and the answer back.
pub async fn forward(client: &Client, to: SocketAddr, seen: Seen) -> Reply {
    let query = seen.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let url = format!("http://{to}{}{query}", seen.path);
    let is_ours = |name: &str| !matches!(name, "host" | "connection" | "content-length" | "transfer-encoding");
    let headers: Vec<(&str, &str)> = seen
        .headers
        .iter()
        .filter(|(name, _)| is_ours(name.as_str()))
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    let answer = client.send_async(&seen.method, &url, &headers, Some(seen.body)).await;
    let Ok(answer) = answer else { return Reply::empty(502) };
    let mut reply =
        Reply::new(answer.status, answer.header("content-type").unwrap_or("text/plain"), answer.body.clone());
    for (name, value) in &answer.headers {
        let is_length = name == "content-length" && seen.method == "HEAD";
        if is_length || (is_ours(name.as_str()) && name != "content-type" && name != "date") {
            reply = reply.header(name.as_str(), value.to_str().unwrap());
        }
    }
    reply
}

/// Runs inside a runtime of one thread, as the program does.
pub fn local<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// Runs what waits for the runtime of the tests, from inside another one.
pub fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Bytes that no two parts share.
pub fn bytes(count: usize, seed: u64) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; count];
    random.fill(&mut bytes);
    bytes.into()
}
