//! STARTTLS before an MTA that has none: greeting, EHLO and STARTTLS are answered here, and what comes
//! under TLS then goes to the MTA as it is.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Octets of a line, at most: greetings and EHLO are short.
const LINE_OCTETS_MAX: usize = 512;

/// Listens until dropped.
pub struct Front {
    pub address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Front {
    /// # Panics
    /// When no port can be had.
    pub async fn start(target: SocketAddr, tls: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let tls = tls.clone();
                // its error is the end of a connection that was cut
                connections.spawn(async move { pass(client, target, &tls).await.is_ok() });
            }
        });
        Self { address, _serving: serving }
    }
}

async fn pass(mut client: TcpStream, target: SocketAddr, tls: &TlsAcceptor) -> io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let greeting = line(&mut server).await?;
    client.write_all(&greeting).await?;
    line(&mut client).await?;
    client.write_all(b"250-front.example\r\n250 STARTTLS\r\n").await?;
    let command = line(&mut client).await?;
    if command != b"STARTTLS\r\n" {
        return client.write_all(b"530 5.7.0 Must issue a STARTTLS command first\r\n").await;
    }
    client.write_all(b"220 2.0.0 Ready to start TLS\r\n").await?;
    let mut secured = tls.accept(client).await?;
    copy_bidirectional(&mut secured, &mut server).await?;
    Ok(())
}

/// One line with its end, and not an octet more.
async fn line(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        if line.len() >= LINE_OCTETS_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        line.push(stream.read_u8().await?);
    }
    Ok(line)
}
