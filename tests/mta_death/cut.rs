//! A wire that can be cut: what passes between infeed and an MTA is counted, and after so many octets of
//! one direction the connection is lost.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Which of the two directions is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// How the loss shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// That direction ends in order (FIN); the other one goes on until whoever it comes from has done.
    Fin,
    /// Both ends get a reset (RST), and what they had not read yet is gone.
    Rst,
}

/// The connection is lost when exactly `at` octets have gone this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub way: Way,
    pub kind: Kind,
    pub at: u64,
}

/// What one connection carried.
#[derive(Debug, Clone, Default)]
pub struct Carried {
    pub to_server: u64,
    pub to_client: Vec<u8>,
}

/// Stands before an MTA until dropped; the n-th connection is cut as the n-th entry says.
pub struct Wire {
    pub address: SocketAddr,
    carried: Arc<Mutex<Vec<Carried>>>,
    _serving: JoinSet<()>,
}

impl Wire {
    /// # Panics
    /// When no port can be had.
    pub async fn start(target: SocketAddr, cuts: &[Cut]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let carried = Arc::new(Mutex::new(Vec::new()));
        let (shared, cuts) = (Arc::clone(&carried), cuts.to_vec());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let number = {
                    let mut all = shared.lock().expect("no holder panics");
                    all.push(Carried::default());
                    all.len() - 1
                };
                let (shared, cut) = (Arc::clone(&shared), cuts.get(number).copied());
                connections.spawn(async move {
                    // without a server the client is dropped: its end
                    if let Ok(server) = TcpStream::connect(target).await {
                        let book = Book { all: &shared, number };
                        carry(client, server, cut, &book).await;
                    }
                });
            }
        });
        Self { address, carried, _serving: serving }
    }

    /// What each connection carried so far, in order.
    pub fn carried(&self) -> Vec<Carried> {
        self.carried.lock().expect("no holder panics").clone()
    }
}

/// Where one connection's octets are counted.
struct Book<'a> {
    all: &'a Mutex<Vec<Carried>>,
    number: usize,
}

impl Book<'_> {
    fn change(&self, f: impl FnOnce(&mut Carried)) {
        f(&mut self.all.lock().expect("no holder panics")[self.number]);
    }
}

/// How a direction came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Cut,
    Over,
}

async fn carry(mut client: TcpStream, mut server: TcpStream, cut: Option<Cut>, book: &Book<'_>) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a TCP socket");
    }
    let resets = cut.is_some_and(|cut| cut.kind == Kind::Rst);
    let was_cut = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let of = |way| Direction { way, cut: cut.filter(|cut| cut.way == way), book };
        let (up, down) = (of(Way::ToServer), of(Way::ToClient));
        let mut up = pin!(up.pass(&mut from_client, &mut to_server));
        let mut down = pin!(down.pass(&mut from_server, &mut to_client));
        tokio::select! {
            ended = &mut up => match ended {
                Ended::Cut if resets => true,
                // each direction has its own end
                ended => (down.await == Ended::Cut) | (ended == Ended::Cut),
            },
            ended = &mut down => match ended {
                Ended::Cut if resets => true,
                // each direction has its own end
                ended => (up.await == Ended::Cut) | (ended == Ended::Cut),
            },
        }
    };
    if was_cut && resets {
        for stream in [&client, &server] {
            SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
        }
    }
}

struct Direction<'a> {
    way: Way,
    /// Of this direction.
    cut: Option<Cut>,
    book: &'a Book<'a>,
}

impl Direction<'_> {
    /// Passes octets on until the cut or the end, which it passes on too; behind either it takes what
    /// still comes and drops it, so that no unread octet makes a reset of an end in order.
    async fn pass(&self, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> Ended {
        let mut buffer = vec![0; 16 * 1024];
        let mut passed = 0u64;
        let ended = loop {
            let left = self.cut.map_or(u64::MAX, |cut| cut.at - passed);
            if left == 0 {
                break Ended::Cut;
            }
            let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let Ok(n @ 1..) = from.read(&mut buffer[..room]).await else { break Ended::Over };
            // counted before: the other end may act on it at once
            self.book.change(|carried| match self.way {
                Way::ToServer => carried.to_server += n as u64,
                Way::ToClient => carried.to_client.extend_from_slice(&buffer[..n]),
            });
            if to.write_all(&buffer[..n]).await.is_err() {
                break Ended::Over;
            }
            passed += n as u64;
        };
        let resets = ended == Ended::Cut && self.cut.is_some_and(|cut| cut.kind == Kind::Rst);
        // it fails when the other end is gone: then that knows
        if !resets && to.shutdown().await.is_ok() {
            while matches!(from.read(&mut buffer).await, Ok(1..)) {}
        }
        ended
    }
}
