//! Two proxies: one that spoils TCP connections, and an HTTP one that remembers what was sent through it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{block_on, runtime};

/// What happens to a connection.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    None,
    /// The server's first byte comes so much later.
    Delay(Duration),
    /// Closed after so many bytes from the server.
    CutAfter(u64),
    /// Reset (RST) after so many bytes from the server.
    ResetAfter(u64),
    /// Closed after so many bytes from the client.
    CutUpAfter(u64),
    /// Reset (RST) after so many bytes from the client.
    ResetUpAfter(u64),
    /// Accepted; whatever is sent goes nowhere and nothing comes.
    BlackHole,
}

/// Stands before a server and spoils what the test wants spoiled.
pub struct FaultProxy {
    pub address: SocketAddr,
    server: Arc<Mutex<SocketAddr>>,
    fault: Arc<Mutex<Fault>>,
    accepting: JoinHandle<()>,
    breaking: Arc<watch::Sender<usize>>,
    broken: Arc<watch::Sender<usize>>,
}

impl FaultProxy {
    pub fn before(server: SocketAddr, fault: Fault) -> Self {
        let (server, fault) = (Arc::new(Mutex::new(server)), Arc::new(Mutex::new(fault)));
        let (breaking, broken) = (Arc::new(watch::channel(0).0), Arc::new(watch::channel(0).0));
        let shared = (fault.clone(), breaking.clone(), broken.clone(), server.clone());
        let (address, accepting) = listen(move |client| {
            let (fault, breaking, broken) = (*shared.0.lock().unwrap(), shared.1.clone(), shared.2.clone());
            let server = *shared.3.lock().unwrap();
            let mut breaking = breaking.subscribe();
            async move {
                let is_broken = tokio::select! {
                    is_broken = spoil(client, server, fault) => is_broken,
                    _ = breaking.changed() => true,
                };
                if is_broken {
                    broken.send_modify(|count| *count += 1);
                }
            }
        });
        Self { address, server, fault, accepting, breaking, broken }
    }

    /// Leads to another server from now on, and breaks every connection with the one before.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.server.lock().unwrap() = server;
        self.break_off();
    }

    /// Breaks every connection there is.
    pub fn break_off(&self) {
        self.breaking.send_modify(|count| *count += 1);
    }

    /// Waits until so many connections have been broken.
    pub async fn broken(&self, count: usize) {
        let _ = self.broken.subscribe().wait_for(|so_far| *so_far >= count).await;
    }

    /// For connections from now on.
    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An HTTP proxy: tunnels by CONNECT, and answers 502 to what is sent through it in clear.
pub struct HttpProxy {
    pub address: SocketAddr,
    seen: Arc<Mutex<Sent>>,
    accepting: JoinHandle<()>,
}

/// What was sent through a proxy.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// `host:port` of each CONNECT.
    pub tunnels: Vec<String>,
    /// The whole head of each request in clear, headers and all.
    pub in_clear: Vec<String>,
}

impl HttpProxy {
    pub fn start() -> Self {
        Self::leading_to(None)
    }

    /// One whose tunnels all end at this server, whatever host they name.
    pub fn leading_to(server: impl Into<Option<SocketAddr>>) -> Self {
        let seen = Arc::<Mutex<Sent>>::default();
        let (shared, server) = (seen.clone(), server.into());
        let (address, accepting) = listen(move |client| tunnel(client, shared.clone(), server));
        Self { address, seen, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Sent {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A port that nothing listens on: connections to it are refused.
pub fn refused() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], super::process::free_port()))
}

fn listen<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = runtime().spawn(async move {
        // The connections end with this task.
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            connections.spawn(serve(client));
        }
    });
    (address, accepting)
}

/// Returns whether the connection was broken before both sides were done with it.
async fn spoil(mut client: TcpStream, server: SocketAddr, fault: Fault) -> bool {
    if let Fault::BlackHole = fault {
        let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
        return false;
    }
    let Ok(mut server) = TcpStream::connect(server).await else {
        return false;
    };
    let (delay, down, up) = match fault {
        Fault::Delay(time) => (time, u64::MAX, u64::MAX),
        Fault::CutAfter(bytes) | Fault::ResetAfter(bytes) => (Duration::ZERO, bytes, u64::MAX),
        Fault::CutUpAfter(bytes) | Fault::ResetUpAfter(bytes) => (Duration::ZERO, u64::MAX, bytes),
        _ => (Duration::ZERO, u64::MAX, u64::MAX),
    };
    let is_broken = pass(&mut client, &mut server, delay, down, up).await;
    if let Fault::ResetAfter(_) | Fault::ResetUpAfter(_) = fault {
        let _ = client.set_zero_linger();
    }
    is_broken
}

async fn pass(client: &mut TcpStream, server: &mut TcpStream, delay: Duration, down: u64, up: u64) -> bool {
    let (from_client, mut to_client) = client.split();
    let (from_server, mut to_server) = server.split();
    let mut first = from_server.take(down);
    let mut last = from_client.take(up);
    let down = async {
        tokio::time::sleep(delay).await;
        let _ = tokio::io::copy(&mut first, &mut to_client).await;
        first.limit() == 0
    };
    let up = async {
        let _ = tokio::io::copy(&mut last, &mut to_server).await;
        let is_broken = last.limit() == 0;
        if !is_broken {
            let _ = to_server.shutdown().await;
        }
        is_broken
    };
    let mut down = std::pin::pin!(down);
    // A client that has said everything still waits for its answer.
    tokio::select! {
        is_broken = &mut down => is_broken,
        is_broken = up => if is_broken { true } else { down.await },
    }
}

async fn tunnel(mut client: TcpStream, seen: Arc<Mutex<Sent>>, server: Option<SocketAddr>) {
    let Some(head) = read_head(&mut client).await else {
        return;
    };
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method != "CONNECT" {
        seen.lock().unwrap().in_clear.push(head.clone());
        let _ = client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        return;
    }
    seen.lock().unwrap().tunnels.push(target.to_owned());
    let connected = match server {
        Some(server) => TcpStream::connect(server).await,
        None => TcpStream::connect(target).await,
    };
    let Ok(mut server) = connected else {
        let _ = client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
        return;
    };
    if client.write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n").await.is_ok() {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

/// Byte by byte up to the empty line, so that nothing of the tunnel is read.
async fn read_head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
        if head.len() > 64 << 10 {
            return None;
        }
    }
    String::from_utf8(head).ok()
}
