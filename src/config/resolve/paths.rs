//! `strip_prefix`, `add_prefix` and `encoded_slash`: how paths are read, and where the backend has them.

use std::sync::Arc;

use super::scalar::{shown, word};
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw;
use crate::config::source::Span;
use crate::config::tree::Text;
use crate::proxy::target::Target;
use crate::tariff::{EncodedSlash, Pattern, Rewrite};

/// What takes away a prefix that a route would inherit.
const NONE: &str = "none";

/// What a route says, or inherits, about its paths.
#[derive(Debug, Clone, Default)]
pub(super) struct Paths {
    pub(super) encoded_slash: EncodedSlash,
    strip: Option<Prefix>,
    add: Option<Prefix>,
}

/// A prefix as the file has it, and where.
#[derive(Debug, Clone)]
struct Prefix {
    pattern: Arc<Pattern>,
    /// As it goes over the wire.
    canonical: Arc<str>,
    span: Span,
}

impl Paths {
    /// These, where `raw` does not say otherwise. `None` when it is wrong; that has been noted.
    pub(super) fn with(&self, raw: &raw::Target, mistakes: &mut Mistakes) -> Option<Self> {
        let words = [EncodedSlash::Refuse, EncodedSlash::Keep].map(|slash| (slash.as_str(), slash));
        let encoded_slash = word(raw.encoded_slash.as_ref(), &words, self.encoded_slash, mistakes);
        let strip = prefix(raw.strip_prefix.as_ref(), self.strip.as_ref(), mistakes);
        let add = prefix(raw.add_prefix.as_ref(), self.add.as_ref(), mistakes);
        Some(Self { encoded_slash: encoded_slash?, strip: strip?, add: add? })
    }

    /// Where the backend has the paths of this route. The outer `None` when what should be taken off is not in front of
    /// them; that has been noted.
    pub(super) fn rewrite(
        &self,
        pattern: &Pattern,
        route: &raw::Route,
        mistakes: &mut Mistakes,
    ) -> Option<Option<Rewrite>> {
        let (strip, add) = (self.strip.as_ref(), self.add.as_ref());
        let rewrite = Rewrite::of(
            pattern,
            strip.map(|prefix| &*prefix.pattern),
            add.map(|prefix| (&*prefix.pattern, &*prefix.canonical)),
        );
        if let (Err(misfit), Some(strip)) = (&rewrite, strip) {
            mistakes.add(
                Mistake::error(&codes::PREFIX, route.key.span, misfit.to_string())
                    .related(strip.span, "this prefix")
                    .help("write strip_prefix: none at this route, or a prefix that all its paths have"),
            );
        }
        rewrite.ok()
    }
}

/// A prefix, or the one that is inherited; `none` takes that away. The outer `None` when it is wrong; that has been noted.
fn prefix(text: Option<&Text>, inherited: Option<&Prefix>, mistakes: &mut Mistakes) -> Option<Option<Prefix>> {
    let Some(text) = text else { return Some(inherited.cloned()) };
    if &*text.text == NONE {
        return Some(None);
    }
    let pattern = Pattern::parse(&text.text).ok().filter(Pattern::is_prefix);
    let target = Target::parse(text.text.as_bytes()).ok();
    let plain = pattern.zip(target);
    if plain.is_none() {
        let message = format!("`{}` is not a prefix", shown(&text.text));
        mistakes.add(
            Mistake::error(&codes::PREFIX, text.span, message)
                .help("write whole segments without a slash at the end, for example /api/v1, or none"),
        );
    }
    plain.map(|(pattern, target)| {
        Some(Prefix { pattern: Arc::new(pattern), canonical: target.path().into(), span: text.span })
    })
}
