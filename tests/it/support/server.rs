//! A small HTTP/1.1 server on loopback, plain or TLS, that can also misbehave: the ground of every stand-in.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::pki::{Clients, Pki};
use super::{block_on, runtime};

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    /// The request target as sent, which has a scheme and host when it came through a plain proxy.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// DER of the client's certificate.
    pub client_certificate: Option<Vec<u8>>,
    /// Which connection it came on, counted from 1.
    pub connection: usize,
    /// Requests under way at that moment, this one included.
    pub in_flight: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn form(&self) -> std::collections::BTreeMap<String, String> {
        super::client::parse_form(&self.body)
    }
}

/// What is answered: a status, headers and a body that may be slow or never end.
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Script,
    gate: Option<Gate>,
}

impl Reply {
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::with_steps(status, content_type, [Step::Send(body.into())])
    }

    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Script::of([]), gate: None }
    }

    pub fn redirect(to: &str) -> Self {
        Self::empty(302).header("location", to)
    }

    /// A body that is sent step by step.
    pub fn with_steps(status: u16, content_type: &str, steps: impl IntoIterator<Item = Step>) -> Self {
        let reply = Self { status, headers: Vec::new(), body: Script::of(steps), gate: None };
        reply.header("content-type", content_type)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends not even the status line before the gate is open.
    pub fn behind(mut self, gate: Gate) -> Self {
        self.gate = Some(gate);
        self
    }
}

/// One step of a body.
pub enum Step {
    Send(Vec<u8>),
    Pause(Duration),
    Wait(Gate),
    /// This byte, every so often, for ever.
    Drip(u8, Duration),
    /// The connection is closed with the body unfinished.
    Cut,
}

/// Holds answers back until it is opened; clones share it.
#[derive(Clone)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
}

impl Gate {
    pub fn closed() -> Self {
        Self { open: Arc::new(watch::channel(false).0) }
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Whether somebody waits for it to open.
    pub fn is_waited_for(&self) -> bool {
        self.open.receiver_count() > 0
    }

    pub async fn passed(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

type Answering = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Handler = dyn Fn(Seen) -> Answering + Send + Sync;

/// The server; it stops, with all its connections, when dropped.
pub struct Server {
    pub address: SocketAddr,
    pub tls: bool,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    seen: Mutex<Vec<Seen>>,
    arrived: watch::Sender<usize>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    connections: AtomicUsize,
    handler: Box<Handler>,
}

impl Server {
    pub fn plain<F: Future<Output = Reply> + Send + 'static>(
        handler: impl Fn(Seen) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, handler)
    }

    pub fn start<F: Future<Output = Reply> + Send + 'static>(
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(Seen) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        Self::on(listener, tls, handler)
    }

    /// Serves on a listener that exists already, for answers that name their own address.
    pub fn on<F: Future<Output = Reply> + Send + 'static>(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(Seen) -> F + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            seen: Mutex::default(),
            arrived: watch::channel(0).0,
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            handler: Box::new(move |seen| Box::pin(handler(seen))),
        });
        let is_tls = tls.is_some();
        let accepting = runtime().spawn(accept(listener, tls.map(TlsAcceptor::from), state.clone()));
        Self { address, tls: is_tls, state, accepting }
    }

    /// `http://127.0.0.1:PORT`, or with https.
    pub fn origin(&self) -> String {
        origin(self.tls, self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub fn most_in_flight(&self) -> usize {
        self.state.most_in_flight.load(Ordering::SeqCst)
    }

    /// TCP connections accepted, with or without a request on them.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Waits until that many requests have come in, whether answered or not.
    pub fn wait_for_requests(&self, count: usize) {
        let mut arrived = self.state.arrived.subscribe();
        let waiting = async {
            tokio::time::timeout(Duration::from_secs(60), arrived.wait_for(|so_far| *so_far >= count)).await.map(drop)
        };
        assert!(block_on(waiting).is_ok(), "not {count} requests within a minute, but {}", self.seen().len());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

pub fn origin(tls: bool, address: SocketAddr) -> String {
    format!("{}://{address}", if tls { "https" } else { "http" })
}

/// The TLS half of a stand-in, with what its clients need to believe it.
#[derive(Clone)]
pub struct Tls {
    pub config: Arc<ServerConfig>,
    pub ca_file: std::path::PathBuf,
}

impl Tls {
    pub fn of(pki: &Pki) -> Self {
        Self::with_clients(pki, Clients::Anonymous)
    }

    pub fn with_clients(pki: &Pki, clients: Clients) -> Self {
        Self { config: pki.server_config(clients), ca_file: pki.ca_file() }
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    // The connections are tasks of this set, so they end with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let number = state.connections.fetch_add(1, Ordering::SeqCst) + 1;
        connections.spawn(connection(stream, tls.clone(), state.clone(), number));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>, number: usize) {
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return serve(stream, None, state, number).await;
    };
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let shown = stream.get_ref().1.peer_certificates();
    let certificate = shown.and_then(|chain| chain.first()).map(|first| first.to_vec());
    serve(stream, certificate, state, number).await;
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    certificate: Option<Vec<u8>>,
    state: Arc<State>,
    number: usize,
) {
    let service = service_fn(|request| {
        let (state, certificate) = (state.clone(), certificate.clone());
        async move { Ok::<_, Infallible>(respond(request, certificate, state, number).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(
    request: http::Request<Incoming>,
    client_certificate: Option<Vec<u8>>,
    state: Arc<State>,
    connection: usize,
) -> Response<Script> {
    let in_flight = InFlight::enter(state.clone());
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
    let seen = Seen {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        target: head.uri.to_string(),
        headers: head.headers,
        body,
        client_certificate,
        connection,
        in_flight: in_flight.count,
    };
    state.seen.lock().unwrap().push(seen.clone());
    state.arrived.send_modify(|count| *count += 1);
    let reply = (state.handler)(seen).await;
    if let Some(gate) = &reply.gate {
        gate.passed().await;
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    response.body(reply.body.carrying(in_flight)).unwrap()
}

/// Counts a request as under way until its answer is sent or given up.
struct InFlight {
    state: Arc<State>,
    count: usize,
}

impl InFlight {
    fn enter(state: Arc<State>) -> Self {
        let count = state.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        state.most_in_flight.fetch_max(count, Ordering::SeqCst);
        Self { state, count }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.state.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A body that plays its steps.
struct Script {
    steps: VecDeque<Step>,
    playing: Option<mpsc::Receiver<Result<Bytes, Broken>>>,
    in_flight: Option<InFlight>,
}

#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut on purpose")
    }
}

impl std::error::Error for Broken {}

impl Script {
    fn of(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), playing: None, in_flight: None }
    }

    fn carrying(mut self, in_flight: InFlight) -> Self {
        self.in_flight = Some(in_flight);
        self
    }

    /// Whether everything is there at once, so that its length can be told.
    fn is_plain(&self) -> bool {
        self.playing.is_none() && self.steps.iter().all(|step| matches!(step, Step::Send(_)))
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.is_plain() {
            let Some(Step::Send(bytes)) = self.steps.pop_front() else {
                return Poll::Ready(None);
            };
            return Poll::Ready(Some(Ok(Frame::data(bytes.into()))));
        }
        if self.playing.is_none() {
            let (sender, receiver) = mpsc::channel(1);
            tokio::spawn(play(std::mem::take(&mut self.steps), sender));
            self.playing = Some(receiver);
        }
        let receiver = self.playing.as_mut().unwrap();
        receiver.poll_recv(context).map(|piece| piece.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.playing.is_none() && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if !self.is_plain() {
            return SizeHint::default();
        }
        let sizes = self.steps.iter().map(|step| if let Step::Send(bytes) = step { bytes.len() as u64 } else { 0 });
        SizeHint::with_exact(sizes.sum())
    }
}

/// Ends early when nobody reads any more.
async fn play(steps: VecDeque<Step>, to: mpsc::Sender<Result<Bytes, Broken>>) {
    for step in steps {
        match step {
            Step::Send(bytes) => {
                if to.send(Ok(bytes.into())).await.is_err() {
                    return;
                }
            }
            Step::Pause(time) => tokio::time::sleep(time).await,
            Step::Wait(gate) => {
                tokio::select! { () = gate.passed() => (), () = to.closed() => return }
            }
            Step::Drip(byte, every) => {
                while to.send(Ok(Bytes::copy_from_slice(&[byte]))).await.is_ok() {
                    tokio::time::sleep(every).await;
                }
            }
            Step::Cut => {
                let _ = to.send(Err(Broken)).await;
                return;
            }
        }
    }
}
