//! A connection that must say something soon, and may have to end after a while.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// The HTTP/2 client preface has this many bytes.
const PREFACE: usize = 24;

/// Ends reading with an error when the HTTP/2 preface does not come in time, or when the connection
/// has lived as long as it may.
pub struct Timed<IO> {
    io: IO,
    missing: usize,
    preface: Option<Pin<Box<Sleep>>>,
    end: Option<Pin<Box<Sleep>>>,
}

impl<IO> Timed<IO> {
    /// The preface must come within `preface_within`, and the connection ends after `lives`.
    pub fn new(io: IO, preface_within: Duration, lives: Option<Duration>) -> Self {
        let timer = |after| Box::pin(sleep(after));
        Self { io, missing: PREFACE, preface: Some(timer(preface_within)), end: lives.map(timer) }
    }

    /// What it wraps.
    pub fn get_ref(&self) -> &IO {
        &self.io
    }

    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let timers =
            [(&mut self.preface, "no HTTP/2 preface came in time"), (&mut self.end, "its time is over")];
        for (timer, why) in timers {
            if timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
        Poll::Pending
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Timed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A peer that always has something to read must not outlive its end either.
        if let Poll::Ready(error) = self.poll_timers(cx) {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if self.missing > 0 && polled.is_ready() {
            self.missing = self.missing.saturating_sub(buf.filled().len() - before);
            if self.missing == 0 {
                self.preface = None;
            }
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Timed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_dropped_after_its_preface_was_due() {
        let (_silent, io) = duplex(64);
        let error = Timed::new(io, SOON, None).read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_half_a_preface_is_silent_too() {
        let (mut peer, io) = duplex(64);
        peer.write_all(&[b'P'; PREFACE - 1]).await.unwrap();
        let mut timed = Timed::new(io, SOON, None);
        timed.read_exact(&mut [0; PREFACE - 1]).await.unwrap();
        assert_eq!(timed.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_preface_a_peer_may_be_quiet_until_its_end() {
        let (mut peer, io) = duplex(64);
        peer.write_all(&[b'P'; PREFACE]).await.unwrap();
        let mut timed = Timed::new(io, SOON, Some(SOON * 12));
        timed.read_exact(&mut [0; PREFACE]).await.unwrap();
        assert!(tokio::time::timeout(SOON * 11, timed.read_u8()).await.is_err(), "quiet, not dropped");
        assert_eq!(timed.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
