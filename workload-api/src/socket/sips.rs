//! Reading in sips: one turn of a connection takes only so many bytes from its socket.
//!
//! HTTP/2 reads on as long as there is something to read. A client that writes as fast as we read
//! would keep the thread to itself; after a few sips its connection goes to the end of the queue.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{authority::Authorities, connection::Seen};

/// A request with its headers has some 200 bytes.
const SIP: usize = 2048;
const SIPS_A_TURN: u8 = 2;

/// A stream that is read in sips, and says how much came.
pub(super) struct Sips<S> {
    inner: S,
    sips: u8,
    seen: Arc<Seen>,
    authorities: Authorities,
}

impl<S> Sips<S> {
    /// Reads `inner` in sips.
    pub(super) fn new(inner: S, seen: Arc<Seen>) -> Self {
        Self { inner, sips: 0, seen, authorities: Authorities::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sips<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.sips >= SIPS_A_TURN {
            self.sips = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut sip = [0; SIP];
        let mut sip = ReadBuf::new(&mut sip[..SIP.min(buffer.remaining())]);
        let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(context, &mut sip) else {
            self.sips = 0;
            return Poll::Pending;
        };
        read?;
        self.sips += 1;
        self.seen.read(sip.filled().len());
        self.authorities.pass(sip.filled_mut());
        buffer.put_slice(sip.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sips<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_takes_a_few_sips_however_much_there_is() {
        let much = vec![9; 100_000];
        let mut reader = Sips::new(&much[..], Arc::new(Seen::default()));
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut taken = vec![0; much.len()];
        let mut buffer = ReadBuf::new(&mut taken);
        while Pin::new(&mut reader).poll_read(&mut context, &mut buffer).is_ready() {}
        assert_eq!(buffer.filled().len(), usize::from(SIPS_A_TURN) * SIP);
        assert!(
            Pin::new(&mut reader).poll_read(&mut context, &mut buffer).is_ready(),
            "the next turn goes on"
        );
    }
}
