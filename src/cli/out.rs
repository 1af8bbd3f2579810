//! Standard output and standard error, for every command.
//!
//! Whoever reads may have had enough: after `| head -1` nothing more is written, and the exit code is what it would have
//! been. Anything else that keeps output from being written is told at the end, because then nobody has the answer.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;

use super::Verdict;

/// Why standard output takes nothing more.
static ENDED: OnceLock<io::Error> = OnceLock::new();

/// A line of data.
macro_rules! put {
    ($($text:tt)*) => { $crate::cli::out::write(format_args!("{}\n", format_args!($($text)*))) };
}

/// A line of talk.
macro_rules! talk {
    ($($text:tt)*) => { $crate::cli::out::speak(format_args!("{}\n", format_args!($($text)*))) };
}

/// Writes data.
pub(super) fn write(text: fmt::Arguments<'_>) {
    attempt(|| io::stdout().lock().write_fmt(text));
}

/// Writes talk. What cannot be told there cannot be told anywhere.
pub(super) fn speak(text: fmt::Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}

/// Whether nobody gets what is written from now on: a long list may end.
pub(super) fn is_over() -> bool {
    ENDED.get().is_some()
}

/// The verdict of a command that has written everything.
pub(super) fn close(verdict: Verdict) -> Verdict {
    attempt(|| io::stdout().lock().flush());
    match ENDED.get() {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe && verdict == Verdict::Yes => {
            talk!("tollhouse: what was found out could not be written: {error}");
            Verdict::CouldNotFindOut
        }
        _ => verdict,
    }
}

fn attempt(write: impl FnOnce() -> io::Result<()>) {
    if !is_over()
        && let Err(error) = write()
    {
        // The first reason is the reason.
        let _ = ENDED.set(error);
    }
}
