//! `tollhouse schema`: the JSON Schema of gateway.yaml, for editors.

use super::Verdict;
use crate::config::schema::schema;

pub(super) fn execute() -> Verdict {
    put!("{:#}", schema());
    Verdict::Yes
}
