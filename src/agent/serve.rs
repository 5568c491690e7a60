//! What the daemon answers: `/livez`, `/readyz`, `/metrics`, `/status`. It reads; there is nothing here to control.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::metrics;
use super::status::Status;
use crate::config::{Server, StatusFor};
use crate::error::{Failed, Fault};

/// Connections at the same time; for one more the oldest is closed.
const CONNECTIONS: usize = 64;

/// For a request to come in whole.
const TO_ASK: Duration = Duration::from_secs(5);

/// For a connection, from its first to its last byte.
const TO_ANSWER: Duration = Duration::from_secs(20);

/// The state that passes write and answers read.
pub type Shared = Arc<Mutex<Status>>;

/// The state; one that a panic left behind is as true as before.
pub fn read(shared: &Shared) -> MutexGuard<'_, Status> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the port, before anything else is begun.
pub async fn listen(server: &Server) -> Result<TcpListener, Failed> {
    let address = server.listen;
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failed::new(
            Fault::Transient,
            format!("listening on {address}: something else listens there"),
            "is another idkeep running? Choose another port in `server.listen`",
        ),
        std::io::ErrorKind::PermissionDenied => Failed::new(
            Fault::Config,
            format!("listening on {address}: not allowed"),
            "choose a port from 1024 on in `server.listen`",
        ),
        _ => Failed::new(
            Fault::Config,
            format!("listening on {address}: not possible"),
            "`server.listen` has to name an address of this machine",
        ),
    })
}

/// Answers until the process ends.
pub async fn serve(listener: TcpListener, shared: Shared, status_for: StatusFor) {
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::new();
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors: some come back when others leave.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        open.retain(|connection| !connection.is_finished());
        // Nobody waits in a queue that grows, and whoever holds them all keeps nobody out.
        while open.len() >= CONNECTIONS {
            let Some(oldest) = open.pop_front() else { break };
            oldest.abort();
        }
        let router = router(Arc::clone(&shared), status_for, status_for == StatusFor::All || is_local(peer));
        open.push_back(tokio::spawn(async move {
            let _ = tokio::time::timeout(TO_ANSWER, answer(stream, router)).await;
        }));
    }
}

fn is_local(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// A page in a browser of this machine reaches loopback by a name of its own: then that name is asked for.
fn is_asked_by_address(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let host = host.to_str().unwrap_or_default();
    let url = url::Url::parse(&format!("http://{host}/"));
    url.is_ok_and(|url| crate::config::is_loopback(&url))
}

/// One request, one answer.
async fn answer(stream: TcpStream, router: Router) -> Result<(), hyper::Error> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TO_ASK)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}

fn router(shared: Shared, status_for: StatusFor, shows_status: bool) -> Router {
    let status = move |State(shared): State<Shared>, headers: HeaderMap| async move {
        status(&shared, shows_status && (status_for == StatusFor::All || is_asked_by_address(&headers)))
    };
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(shared)
}

/// `/readyz?node=NAME`.
#[derive(Deserialize)]
struct Asked {
    node: Option<String>,
}

async fn ready(State(shared): State<Shared>, Query(asked): Query<Asked>) -> Response {
    let unready = read(&shared).unready(asked.node.as_deref(), Timestamp::now());
    match unready {
        None => (StatusCode::NOT_FOUND, "there is no such node\n").into_response(),
        Some(reasons) if reasons.is_empty() => "ready\n".into_response(),
        Some(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response(),
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let text = metrics::render(&read(&shared), Timestamp::now());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn status(shared: &Shared, is_shown: bool) -> Response {
    if !is_shown {
        let hint = "only for who asks from this machine (`server.status: all` shows it to all)\n";
        return (StatusCode::FORBIDDEN, hint).into_response();
    }
    let mut text = serde_json::to_string_pretty(&*read(shared)).unwrap_or_default();
    text.push('\n');
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
