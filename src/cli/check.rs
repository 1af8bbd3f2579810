//! `tollhouse check`: every mistake of a file at once, offline.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Format};

/// Reads the file, prints what is wrong with it, and says whether it could be used.
///
/// The report goes to stdout: it is what was asked for. Exit code 1 means that the file is refused.
pub fn check(path: &Path, format: Format, color: bool) -> ExitCode {
    let loaded = config::load(path);
    let report = loaded.report.render(format, color);
    // A reader that has seen enough and hung up (`| head`) changes nothing about the file.
    let _ = std::io::stdout().lock().write_all(report.as_bytes());
    if loaded.config.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
