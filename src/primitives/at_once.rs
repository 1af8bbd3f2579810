//! Work that often waits for nothing.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// What the work comes to if it waits for nothing. `None` if it does: it has begun, and whoever called sees that it ends.
pub async fn at_once<W: Future + Unpin>(work: &mut W) -> Option<W::Output> {
    poll_fn(|context| match Pin::new(&mut *work).poll(context) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
