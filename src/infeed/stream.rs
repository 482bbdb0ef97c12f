//! The octets' way to the MTA: TCP or a Unix-domain socket, in clear text or under TLS.
//!
//! In clear text each call is the kernel's own, with no box and no copy between: a group is one vectored
//! write. Under TLS what is "written" was handed to the TLS layer, which may still hold it; whoever waits
//! for a reply flushes it by [`Stream::poll_sent`]. Errors are `io::Error`; TLS's own are inside it.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What the dialogue speaks over.
#[derive(Debug)]
pub enum Stream {
    Clear(Socket),
    /// Boxed once a connection: a TLS session is a kilobyte large.
    Tls(Box<TlsStream<Socket>>),
}

/// Does the same to whichever socket it is.
macro_rules! each {
    ($socket:expr, $stream:ident => $does:expr) => {
        match $socket {
            Socket::Tcp($stream) => $does,
            Socket::Unix($stream) => $does,
        }
    };
}

impl Socket {
    /// Whether what is said here stays on this host.
    pub fn is_local(&self) -> bool {
        match self {
            Socket::Tcp(stream) => stream.peer_addr().is_ok_and(|address| is_this_host(address.ip())),
            Socket::Unix(_) => true,
        }
    }

    /// Acknowledges what was read, now, and the next of it at once. The kernel forgets the setting, so it
    /// is set anew. A Unix-domain socket acknowledges nothing, and elsewhere the kernel's own way must do.
    fn quick_ack(&self) -> io::Result<()> {
        match self {
            #[cfg(target_os = "linux")]
            Socket::Tcp(stream) => Ok(rustix::net::sockopt::set_tcp_quickack(stream, true)?),
            _ => Ok(()),
        }
    }
}

fn is_this_host(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

impl Stream {
    /// See [`Socket::quick_ack`].
    pub fn quick_ack(&self) -> io::Result<()> {
        match self {
            Stream::Clear(socket) => socket.quick_ack(),
            Stream::Tls(stream) => stream.get_ref().0.quick_ack(),
        }
    }

    /// Writes what is taken at once of these parts together, or fails with `WouldBlock`.
    pub fn try_write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, parts) {
            (Stream::Clear(socket), [part]) => each!(socket, stream => stream.try_write(part)),
            (Stream::Clear(socket), _) => each!(socket, stream => stream.try_write_vectored(parts)),
            (Stream::Tls(stream), _) => at_once(|cx| Pin::new(stream).poll_write_vectored(cx, parts)),
        }
    }

    /// Reads into what `inbox` has room for; 0 at the end.
    pub fn poll_read_into(&mut self, cx: &mut Context<'_>, inbox: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        // The future holds no state of its own: made anew at each call, it loses nothing.
        pin!(self.read_buf(inbox)).poll(cx)
    }

    /// Ready when [`Stream::try_write`] is worth another try.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Clear(socket) => each!(socket, stream => stream.poll_write_ready(cx)),
            Stream::Tls(_) => self.poll_sent(cx),
        }
    }

    /// Ready when everything written has left this process.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Clear(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
}

/// Polls once. Whoever then waits polls with a waker of its own, which takes the place of this one.
fn at_once(poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<usize>>) -> io::Result<usize> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, out))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, octets))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Clear(socket) => Pin::new(socket).poll_read(cx, out),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Clear(socket) => Pin::new(socket).poll_write(cx, octets),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Clear(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Clear(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_this_host() {
        let is = |address: &str| address.parse().map(is_this_host);
        for address in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(is(address), Ok(true), "{address}");
        }
        for address in ["192.0.2.1", "10.0.0.1", "fe80::1", "::ffff:192.0.2.1", "::"] {
            assert_eq!(is(address), Ok(false), "{address}");
        }
    }
}
