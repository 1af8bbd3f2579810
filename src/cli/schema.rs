//! `tollhouse schema`: the JSON Schema of gateway.yaml, for editors.

use std::io::Write as _;

use super::Verdict;
use crate::config::schema::schema;

pub(super) fn execute() -> Verdict {
    // A reader that has seen enough and hung up is no mistake of ours.
    let _ = writeln!(std::io::stdout().lock(), "{:#}", schema());
    Verdict::Yes
}
