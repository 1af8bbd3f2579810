//! A mistake in the file: what, where, and what to write instead.

use super::codes::Code;
use super::source::Span;
use crate::tariff::Place;

/// How many mistakes are kept; a file with more has one cause.
const MOST_MISTAKES: usize = 1000;

/// Whether a mistake keeps the file from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is used; somebody should look.
    Warning,
}

impl Severity {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong with the file.
#[derive(Debug, Clone)]
pub struct Mistake {
    /// Its kind.
    pub code: &'static Code,
    /// Whether the file can still be used.
    pub severity: Severity,
    /// What is wrong. Never holds a secret.
    pub message: String,
    /// Where; `None` when it is about the whole file.
    pub span: Option<Span>,
    /// The same place as line and column; filled in when the report is made.
    pub place: Option<Place>,
    /// The way to the place: `routes[GET /v1/weather].price`; filled in when the report is made.
    pub path: String,
    /// What stands beside the carets.
    pub label: Option<String>,
    /// What is worth knowing.
    pub note: Option<String>,
    /// What to write instead.
    pub help: Option<String>,
    /// Other places that have part in it, each with a label.
    pub related: Vec<(Span, String)>,
}

impl Mistake {
    pub(super) fn error(code: &'static Code, span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: printable(message),
            span: span.into(),
            place: None,
            path: String::new(),
            label: None,
            note: None,
            help: None,
            related: Vec::new(),
        }
    }

    pub(super) fn warning(code: &'static Code, span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    #[must_use]
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(printable(label));
        self
    }

    #[must_use]
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(printable(note));
        self
    }

    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(printable(help));
        self
    }

    #[must_use]
    pub(super) fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }
}

/// A text that cannot steer the terminal it is shown on; parts of it come from the file.
fn printable(text: impl Into<String>) -> String {
    let text = text.into();
    if text.contains(char::is_control) { text.replace(char::is_control, "\u{FFFD}") } else { text }
}

/// Collects mistakes while a file is read, so that all of them are reported at once.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    kept: Vec<Mistake>,
    errors: usize,
    warnings: usize,
}

impl Mistakes {
    pub(super) fn add(&mut self, mistake: Mistake) {
        match mistake.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
        if self.kept.len() < MOST_MISTAKES {
            self.kept.push(mistake);
        }
    }

    /// How many errors there are, kept or not.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// How many warnings there are, kept or not.
    pub(super) fn warnings(&self) -> usize {
        self.warnings
    }

    pub(super) fn into_kept(self) -> Vec<Mistake> {
        self.kept
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    #[cfg(test)]
    pub(super) fn codes(&self) -> Vec<&'static str> {
        self.kept.iter().map(|mistake| mistake.code.id).collect()
    }
}
