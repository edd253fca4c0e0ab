//! A server's end of mutual TLS: accepts TCP connections and yields those whose handshake succeeded.
//!
//! A client certificate is asked for but not required, because a joining agent has none; a certificate
//! that is shown must be an X509-SVID that verifies. Until a peer has authenticated, it costs a bounded
//! amount of everything, and what strangers cost does not take from those who have authenticated.

mod tally;
mod timed;

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use spiffe::{
    SpiffeId,
    tls::{PeerSvid, peer_svid},
};
use tally::{Place, Tally};
pub use timed::Timed;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tonic::transport::server::Connected;

/// How much peers may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A TLS handshake ends within this time.
    pub handshake_within: Duration,
    /// The HTTP/2 preface comes within this time after the handshake.
    pub preface_within: Duration,
    /// Handshakes under way at once.
    pub handshakes: usize,
    /// Handshakes under way at once from one address.
    pub handshakes_per_address: usize,
    /// Connections without client certificate.
    pub strangers: usize,
    /// Connections without client certificate from one address.
    pub strangers_per_address: usize,
    /// A connection without client certificate ends after this time.
    pub stranger_lives: Duration,
    /// Connections with client certificate.
    pub peers: usize,
    /// Connections of one SPIFFE ID.
    pub connections_per_peer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_within: Duration::from_secs(5),
            preface_within: Duration::from_secs(5),
            handshakes: 4096,
            handshakes_per_address: 1024,
            strangers: 512,
            strangers_per_address: 256,
            stranger_lives: Duration::from_secs(30),
            peers: 16_384,
            connections_per_peer: 64,
        }
    }
}

/// A connection whose handshake succeeded.
pub struct Accepted {
    stream: Timed<TlsStream<TcpStream>>,
    peer: ConnectionPeer,
    _places: Vec<Place>,
}

/// Who is at the other end of a connection; tonic puts it into each request's extensions.
#[derive(Clone, Debug)]
pub struct ConnectionPeer {
    /// Where the connection came from.
    pub address: SocketAddr,
    /// The X509-SVID that the peer showed and that verified during the handshake.
    pub svid: Option<Arc<PeerSvid>>,
}

/// Accepts connections on `listener` for as long as the receiver is there. `tls` must verify client
/// certificates as X509-SVIDs where they are shown.
pub fn accept(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    limits: Limits,
) -> mpsc::Receiver<io::Result<Accepted>> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(accept_all(listener, Arc::new(Door::new(tls, limits)), sender));
    receiver
}

async fn accept_all(listener: TcpListener, door: Arc<Door>, sender: mpsc::Sender<io::Result<Accepted>>) {
    loop {
        let accepted = tokio::select! {
            () = sender.closed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                // Over the cap, the connection is closed before a byte of it is read.
                let Some(places) = door.handshake_places(address.ip()) else { continue };
                let (door, sender) = (door.clone(), sender.clone());
                tokio::spawn(async move {
                    let shaken = door.handshake(stream, address).await;
                    drop(places);
                    if let Some(accepted) = shaken {
                        let _ = sender.send(Ok(accepted)).await;
                    }
                });
            }
            Err(error) => {
                // One peer's reset or a want of descriptors must not end the server.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// What all handshakes share.
struct Door {
    tls: TlsAcceptor,
    limits: Limits,
    handshakes: Tally<()>,
    handshakes_from: Tally<IpAddr>,
    strangers: Tally<()>,
    strangers_from: Tally<IpAddr>,
    peers: Tally<()>,
    connections_of: Tally<SpiffeId>,
}

impl Door {
    fn new(tls: Arc<ServerConfig>, limits: Limits) -> Self {
        Self {
            tls: TlsAcceptor::from(tls),
            handshakes: Tally::new(limits.handshakes),
            handshakes_from: Tally::new(limits.handshakes_per_address),
            strangers: Tally::new(limits.strangers),
            strangers_from: Tally::new(limits.strangers_per_address),
            peers: Tally::new(limits.peers),
            connections_of: Tally::new(limits.connections_per_peer),
            limits,
        }
    }

    fn handshake_places(&self, address: IpAddr) -> Option<Vec<Place>> {
        Some(vec![self.handshakes.take(())?, self.handshakes_from.take(network(address))?])
    }

    async fn handshake(&self, stream: TcpStream, address: SocketAddr) -> Option<Accepted> {
        // Small messages go back and forth; waiting to fill a segment would only delay them.
        let _ = stream.set_nodelay(true);
        let shaken = tokio::time::timeout(self.limits.handshake_within, self.tls.accept(stream)).await;
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%address, %error, "a TLS handshake failed");
                return None;
            }
            Err(_) => {
                tracing::debug!(%address, "a TLS handshake took too long");
                return None;
            }
        };
        let svid = match peer_svid(stream.get_ref().1.peer_certificates()) {
            Ok(svid) => svid.map(Arc::new),
            Err(error) => {
                tracing::warn!(%address, %error, "a verified client certificate cannot be read");
                return None;
            }
        };
        let (places, lives) = match &svid {
            None => {
                let from = self.strangers_from.take(network(address.ip()))?;
                (vec![self.strangers.take(())?, from], Some(self.limits.stranger_lives))
            }
            Some(svid) => (vec![self.peers.take(())?, self.connections_of.take(svid.id.clone())?], None),
        };
        Some(Accepted {
            stream: Timed::new(stream, self.limits.preface_within, lives),
            peer: ConnectionPeer { address, svid },
            _places: places,
        })
    }
}

/// What counts as one address: whoever has an IPv6 address usually has its whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

impl Connected for Accepted {
    type ConnectInfo = ConnectionPeer;
    fn connect_info(&self) -> ConnectionPeer {
        self.peer.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
