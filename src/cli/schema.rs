//! `tollhouse schema`: the JSON Schema of the file, for editors.

use std::io::Write;
use std::process::ExitCode;

use crate::config::schema::schema as schema_of_the_file;

/// Prints the schema.
pub fn schema() -> ExitCode {
    let written = writeln!(std::io::stdout().lock(), "{:#}", schema_of_the_file());
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
