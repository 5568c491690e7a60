//! Everything that the tests stand on: real servers started and stopped, strict stand-ins for what does not
//! install here, and the real binary run against them.
//!
//! Test code is synchronous; servers of ours run on one shared background runtime.
#![allow(dead_code)]

pub mod age;
#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "azure")]
pub mod azure;
pub mod backup;
pub mod chart;
pub mod client;
pub mod daemon;
pub mod dump;
pub mod fleet;
pub mod gcp;
pub mod idkeep;
pub mod issuer;
pub mod jwt;
pub mod keys;
pub mod kubernetes;
pub mod memory;
pub mod metrics;
pub mod node;
pub mod oidc;
pub mod openbao;
pub mod parts;
pub mod pki;
pub mod podman;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod s3;
pub mod scenario;
pub mod server;
pub mod validator;

use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

/// The runtime of all servers and clients of the tests; it lives as long as the test process.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .thread_name("support")
            .build()
            .unwrap()
    })
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

/// Asks until there is an answer, for what gives no event to wait for; panics after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, ask: impl FnMut() -> Option<T>) -> T {
    poll(what, limit, Duration::from_millis(5), ask)
}

/// The same for what costs more than a little to ask for.
pub fn poll<T>(what: &str, limit: Duration, pause: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(pause);
    }
}
