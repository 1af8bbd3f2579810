//! The threads that talk to the database.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::{io, thread};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::super::StoreError;

/// How many jobs may wait for a thread. Whoever comes later waits to be let in.
const WAITING: usize = 1024;

/// How many writes share a commit.
const GROUP: usize = 256;

/// A thread with a connection of its own. It ends, and closes the connection, when this is dropped.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Runs every job in a transaction that is durable before its answer is told.
    ///
    /// What has piled up during one commit shares the next: nothing waits for company, so a lone write is as fast as
    /// the disk, and many at once cost one flush. `at_last` is done when no job will come any more.
    pub(super) fn writer(db: Connection, at_last: impl FnOnce(&Connection) + Send + 'static) -> io::Result<Self> {
        let serve = |db: &mut Connection, group: &mut Vec<Box<dyn Job>>| {
            let outcome = commit(db, group).map_err(Arc::new);
            for job in group.drain(..) {
                job.tell(&outcome);
            }
        };
        Self::start("ledger-writer", db, serve, at_last)
    }

    /// Runs every job by itself; each sees the latest commit.
    pub(super) fn reader(db: Connection) -> io::Result<Self> {
        let serve = |db: &mut Connection, group: &mut Vec<Box<dyn Job>>| {
            for mut job in group.drain(..) {
                let outcome = job.work(db).map_err(Arc::new);
                job.tell(&outcome);
            }
        };
        Self::start("ledger-reader", db, serve, |_| ())
    }

    /// Has the thread do something, and waits for the answer.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError("the ledger's thread has ended".into());
        let (ack, answer) = oneshot::channel();
        let job = Box::new(Asked { work: Some(work), answer: None, ack });
        self.jobs.as_ref().ok_or_else(gone)?.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    fn start(
        name: &str,
        mut db: Connection,
        serve: impl Fn(&mut Connection, &mut Vec<Box<dyn Job>>) + Send + 'static,
        at_last: impl FnOnce(&Connection) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, mut waiting) = mpsc::channel::<Box<dyn Job>>(WAITING);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut group = Vec::with_capacity(GROUP);
            while waiting.blocking_recv_many(&mut group, GROUP) > 0 {
                // Whoever stopped waiting does not want it done any more: a claim nobody holds only blocks a payment.
                group.retain(|job| job.wanted());
                serve(&mut db, &mut group);
            }
            at_last(&db);
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to close.
            let _ = thread.join();
        }
    }
}

/// One transaction for the whole group. A job that fails is undone alone; an error here undoes all of them.
fn commit(db: &mut Connection, group: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    if group.is_empty() {
        return Ok(());
    }
    let mut transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in group {
        let step = transaction.savepoint()?;
        match job.work(&step) {
            Ok(()) => step.commit()?,
            Err(error) => {
                drop(step);
                // A full disk ends the whole transaction, and with it what the jobs before this one wrote (S66).
                if transaction.is_autocommit() {
                    return Err(error);
                }
                job.fail(error);
            }
        }
    }
    transaction.commit()
}

/// Something to do on a thread of the ledger, and somebody who waits for the answer.
trait Job: Send {
    /// Whether anybody still waits.
    fn wanted(&self) -> bool;
    /// Does it and keeps the answer.
    fn work(&mut self, db: &Connection) -> rusqlite::Result<()>;
    /// Keeps the error as the answer.
    fn fail(&mut self, error: rusqlite::Error);
    /// Tells the answer, or why all of the group failed.
    fn tell(self: Box<Self>, outcome: &Result<(), Arc<rusqlite::Error>>);
}

struct Asked<F, T> {
    work: Option<F>,
    answer: Option<Result<T, StoreError>>,
    ack: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Job for Asked<F, T>
where
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn wanted(&self) -> bool {
        !self.ack.is_closed()
    }

    fn work(&mut self, db: &Connection) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.answer = Some(Ok(work(db)?));
        }
        Ok(())
    }

    fn fail(&mut self, error: rusqlite::Error) {
        self.answer = Some(Err(StoreError(error.into())));
    }

    fn tell(self: Box<Self>, outcome: &Result<(), Arc<rusqlite::Error>>) {
        let answer = match outcome {
            Ok(()) => self.answer.unwrap_or_else(|| Err(StoreError("the ledger did not do it".into()))),
            Err(error) => Err(StoreError(error.clone().into())),
        };
        // Whoever asked may have gone meanwhile.
        let _ = self.ack.send(answer);
    }
}
