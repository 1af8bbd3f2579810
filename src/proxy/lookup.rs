//! A request target meets the price table: the same way for a request as for `tollhouse quote`.

use http::Method;

use crate::tariff::{Found, Tariff};

use super::target::{Ambiguous, Target};

/// Reads a target. Where no route of the table takes escaped slashes, one that has any is refused here.
///
/// # Errors
/// When it can be read in more than one way.
pub fn read(table: &Tariff, target: &[u8]) -> Result<Target, Ambiguous> {
    if table.keeps_slashes() { Target::parse_keeping(target) } else { Target::parse(target) }
}

/// What a target costs. `host` is canonical.
pub fn find<'t>(table: &'t Tariff, host: Option<&str>, method: &Method, target: &Target) -> Found<'t> {
    if !target.keeps_slash() {
        return table.find(host, method, target.segments());
    }
    let divided = target.divided();
    table.find_kept(host, method, target.segments(), divided[1..].split('/'))
}
