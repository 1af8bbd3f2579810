//! An error in words. Errors leave their cause to `source`; whoever tells people about one needs all of it.

use std::error::Error;

/// An error and all that caused it, in one line.
pub fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
