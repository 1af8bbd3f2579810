//! What goes to a client, gathered: head and body of an answer leave in one piece.
//!
//! Pingora writes them one after the other and says with a flush when they have to leave. Its own listeners have a buffer
//! for that; connections that are accepted elsewhere have none, and each write would be a system call, and over TLS a
//! record.

use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// What is copied at most, in bytes. Whatever does not fit is sent from where it is.
const ROOM: usize = 8 * 1024;

/// What has been written and has not left yet. Takes no memory while there is nothing.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    held: Vec<u8>,
    /// How much of it has left.
    sent: usize,
}

impl Parcel {
    /// Takes what fits; sends it with what is held where it does not. Returns how much of it was taken or sent.
    pub(super) fn poll_write<S>(
        &mut self,
        mut stream: Pin<&mut S>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>>
    where
        S: AsyncWrite,
    {
        if self.take(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        loop {
            let waiting = self.held.len() - self.sent;
            if waiting == 0 {
                self.empty();
                return stream.poll_write(context, bytes);
            }
            let both = [IoSlice::new(&self.held[self.sent..]), IoSlice::new(bytes)];
            let written = match ready!(stream.as_mut().poll_write_vectored(context, &both))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => written,
            };
            self.sent += written.min(waiting);
            if written > waiting {
                self.empty();
                return Poll::Ready(Ok(written - waiting));
            }
        }
    }

    /// As [`poll_write`](Self::poll_write), of several pieces.
    pub(super) fn poll_write_vectored<S>(
        &mut self,
        stream: Pin<&mut S>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>
    where
        S: AsyncWrite,
    {
        let first = || pieces.iter().find(|piece| !piece.is_empty());
        match (self.is_empty() && pieces.iter().map(|piece| piece.len()).sum::<usize>() > ROOM, first()) {
            (true, _) => stream.poll_write_vectored(context, pieces),
            (false, Some(first)) => self.poll_write(stream, context, first),
            (false, None) => Poll::Ready(Ok(0)),
        }
    }

    /// Sends what is held.
    pub(super) fn poll_send<S>(&mut self, mut stream: Pin<&mut S>, context: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite,
    {
        while self.sent < self.held.len() {
            match ready!(stream.as_mut().poll_write(context, &self.held[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.empty();
        Poll::Ready(Ok(()))
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn take(&mut self, bytes: &[u8]) -> bool {
        let fits = self.held.len() + bytes.len() <= ROOM;
        if fits {
            self.held.extend_from_slice(bytes);
        }
        fits
    }

    fn empty(&mut self) {
        self.sent = 0;
        drop(mem::take(&mut self.held));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;

    use super::*;

    /// Takes so much at a time and pauses in between, as a socket does whose client reads slowly.
    #[derive(Default)]
    struct Slow {
        got: Vec<u8>,
        calls: usize,
        at_once: usize,
        pauses: bool,
    }

    impl Slow {
        fn taking(at_once: usize) -> Self {
            Self { at_once, ..Self::default() }
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(context, &[IoSlice::new(from)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.pauses = !self.pauses;
            if self.pauses && self.at_once != usize::MAX {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.calls += 1;
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).take(self.at_once).collect();
            self.got.extend(&all);
            Poll::Ready(Ok(all.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn write(parcel: &mut Parcel, to: &mut Slow, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let written = poll_fn(|context| parcel.poll_write(Pin::new(&mut *to), context, bytes)).await;
            bytes = &bytes[written.expect("it takes everything")..];
        }
    }

    async fn send(parcel: &mut Parcel, to: &mut Slow) {
        poll_fn(|context| parcel.poll_send(Pin::new(&mut *to), context)).await.expect("it takes everything");
    }

    #[tokio::test]
    async fn head_and_body_leave_together_however_large_the_body_is() {
        for body in [64, ROOM - 100, ROOM, 1024 * 1024] {
            let (mut parcel, mut to) = (Parcel::default(), Slow::taking(usize::MAX));
            write(&mut parcel, &mut to, &[1; 100]).await;
            assert_eq!(to.calls, 0, "nobody has said that it has to leave");
            write(&mut parcel, &mut to, &vec![2; body]).await;
            send(&mut parcel, &mut to).await;
            assert_eq!((to.calls, to.got.len()), (1, 100 + body));
            assert_eq!(parcel.held.capacity(), 0, "it takes no memory any more");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_arrives_in_order(
            lengths in proptest::collection::vec((0_usize..20_000, any::<bool>(), any::<bool>()), 0..12),
            at_once in 1_usize..30_000,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                let (mut parcel, mut to, mut expected) = (Parcel::default(), Slow::taking(at_once), Vec::<u8>::new());
                for (number, (length, leaves, halved)) in lengths.into_iter().enumerate() {
                    let bytes: Vec<u8> = (0..length).map(|at| (at + number) as u8).collect();
                    expected.extend(&bytes);
                    if halved {
                        let (one, other) = bytes.split_at(length / 2);
                        let mut pieces = [IoSlice::new(one), IoSlice::new(other)];
                        let mut rest = &mut pieces[..];
                        while rest.iter().any(|piece| !piece.is_empty()) {
                            let writing = poll_fn(|context| parcel.poll_write_vectored(Pin::new(&mut to), context, rest));
                            let written = writing.await.expect("it takes everything");
                            IoSlice::advance_slices(&mut rest, written);
                        }
                    } else {
                        write(&mut parcel, &mut to, &bytes).await;
                    }
                    if leaves {
                        send(&mut parcel, &mut to).await;
                        assert!(parcel.is_empty());
                        assert_eq!(to.got, expected);
                    }
                }
                send(&mut parcel, &mut to).await;
                assert_eq!(to.got, expected);
            });
        }
    }
}
