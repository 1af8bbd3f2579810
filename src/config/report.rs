//! Mistakes as people and machines read them: sorted by line, each with what, where and the fix.

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::json;

use super::mistake::{Mistake, Mistakes, Severity};
use super::secrets;
use super::source::{Line, Source, Span};
use super::tree::{self, Node};
use crate::tariff::Tariff;

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// With the lines of the file, in rustc's shape.
    Human,
    /// One line each.
    Short,
    /// One JSON object a line.
    Json,
    /// Annotations for a pull request on GitHub.
    Github,
}

/// What kind of money changes hands. Real money is loud.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Money {
    /// Networks with real money.
    pub live: Vec<Arc<str>>,
    /// Networks with test money.
    pub test: Vec<Arc<str>>,
    /// Play money.
    pub sandbox: bool,
}

/// What is wrong with a file, and what it is about.
#[derive(Debug)]
pub struct Report {
    source: Source,
    mistakes: Vec<Mistake>,
    errors: usize,
    warnings: usize,
    /// What must not be printed, in order (S60).
    hidden: Vec<Span>,
    /// Whether the file could be parsed. If not, nobody knows which parts are secrets.
    parsed: bool,
    money: Money,
    routes: usize,
    priced: usize,
}

impl Report {
    pub(super) fn of(source: Source, root: Option<&Node>, mistakes: Mistakes, money: Money) -> Self {
        let (errors, warnings) = (mistakes.errors(), mistakes.warnings());
        let mut mistakes = mistakes.into_kept();
        for mistake in &mut mistakes {
            mistake.place = mistake.span.map(|span| source.place(span));
            mistake.path =
                mistake.span.zip(root).map(|(span, root)| tree::path_to(root, span.start)).unwrap_or_default();
        }
        mistakes.sort_by_key(|mistake| mistake.span.map(|span| span.start));
        let hidden = match root {
            Some(root) if !mistakes.is_empty() => secrets::find(root),
            _ => Vec::new(),
        };
        Self { source, mistakes, errors, warnings, hidden, parsed: root.is_some(), money, routes: 0, priced: 0 }
    }

    pub(super) fn count(&mut self, tariff: &Tariff) {
        self.routes = tariff.routes().count();
        self.priced = tariff.priced();
    }

    /// Sorted by line; those about the whole file first.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.warnings
    }

    /// What kind of money changes hands.
    pub fn money(&self) -> &Money {
        &self.money
    }

    /// The whole report. `color` matters to `Format::Human` only.
    pub fn render(&self, format: Format, color: bool) -> String {
        let mut text = String::new();
        for mistake in &self.mistakes {
            text += &match format {
                Format::Human => self.human(mistake, color) + "\n\n",
                Format::Short => self.short(mistake) + "\n",
                Format::Json => self.json(mistake) + "\n",
                Format::Github => self.github(mistake) + "\n",
            };
        }
        if matches!(format, Format::Human | Format::Short) {
            text += &self.summary();
            text.push('\n');
        }
        text
    }

    /// The last line: `gateway.yaml: 3 errors, 1 warning.  LIVE: real money on base.`
    pub fn summary(&self) -> String {
        let name = self.source.name();
        let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let mut text = match (self.errors, self.warnings) {
            (0, 0) => format!("{name} is valid: {}, {} priced.", counted(self.routes, "route"), self.priced),
            (0, warnings) => {
                let routes = counted(self.routes, "route");
                format!("{name} is valid: {routes}, {} priced; {}.", self.priced, counted(warnings, "warning"))
            }
            (errors, 0) => format!("{name}: {}.", counted(errors, "error")),
            (errors, warnings) => format!("{name}: {}, {}.", counted(errors, "error"), counted(warnings, "warning")),
        };
        if self.errors + self.warnings > self.mistakes.len() {
            text += &format!("  The first {} are shown.", self.mistakes.len());
        }
        match &self.money {
            Money { sandbox: true, .. } => text += "  SANDBOX: play money.",
            Money { live, .. } if !live.is_empty() => text += &format!("  LIVE: real money on {}.", live.join(", ")),
            Money { test, .. } if !test.is_empty() => text += &format!("  Test money on {}.", test.join(", ")),
            Money { .. } => {}
        }
        text
    }

    fn human(&self, mistake: &Mistake, color: bool) -> String {
        let level = match mistake.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(&*mistake.message).id(mistake.code.id));
        group = match mistake.span {
            Some(span) => group.element(self.snippet(span, mistake.label.as_deref(), AnnotationKind::Primary)),
            None => group.element(Origin::path(&**self.source.name())),
        };
        for (span, label) in &mistake.related {
            group = group.element(self.snippet(*span, Some(label), AnnotationKind::Context));
        }
        if let Some(note) = &mistake.note {
            group = group.element(Level::NOTE.message(&**note));
        }
        if let Some(help) = &mistake.help {
            group = group.element(Level::HELP.message(&**help));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// One line of the file with a mark under it. Only that line is given away, so that the cost of a report does not
    /// grow with the file.
    fn snippet<'a>(
        &'a self,
        span: Span,
        label: Option<&'a str>,
        kind: AnnotationKind,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let line = self.source.line(span.start);
        let start = (span.start - line.start) as usize;
        let end = (span.end.saturating_sub(line.start) as usize).min(line.text.len()).max(start);
        let (text, marked) = self.veil(line, start..end);
        Snippet::source(text)
            .line_start(line.number as usize)
            .path(&**self.source.name())
            .annotation(kind.span(marked).label(label))
    }

    /// The line without secrets, and where the marked part of it then stands (S60).
    fn veil(&self, line: Line<'_>, marked: Range<usize>) -> (String, Range<usize>) {
        const VEIL: &str = "[hidden]";
        if !self.parsed && secrets::may_stand_in(line.text) {
            return (VEIL.to_owned(), 0..VEIL.len());
        }
        let (mut text, mut shown_to) = (String::new(), 0);
        let (mut start, mut end) = (marked.start, marked.end);
        let first = self.hidden.partition_point(|span| span.end <= line.start);
        for span in &self.hidden[first..] {
            let from = (span.start.max(line.start) - line.start) as usize;
            let to = ((span.end - line.start) as usize).min(line.text.len());
            if from >= line.text.len() {
                break;
            }
            if from < shown_to {
                continue;
            }
            text += line.text.get(shown_to..from).unwrap_or_default();
            let (veil_start, veil_end) = (text.len(), text.len() + VEIL.len());
            let moved = |at: usize, inside: usize| match at {
                at if at >= to => (at - to) + veil_end,
                at if at > from => inside,
                at => at - from + veil_start,
            };
            if marked.start >= from {
                start = moved(marked.start, veil_start);
            }
            if marked.end > from {
                end = moved(marked.end, veil_end);
            }
            text += VEIL;
            shown_to = to;
        }
        text += line.text.get(shown_to..).unwrap_or_default();
        (text, start..end.max(start))
    }

    fn short(&self, mistake: &Mistake) -> String {
        let mut text = String::new();
        let (severity, code) = (mistake.severity.as_str(), mistake.code.id);
        let _ = match &mistake.place {
            Some(place) => write!(text, "{}:{}:{}: ", place.file, place.line, place.column),
            None => write!(text, "{}: ", self.source.name()),
        };
        let _ = write!(text, "{severity}[{code}]: {}", mistake.message);
        if let Some(fix) = mistake.help.as_ref().or(mistake.label.as_ref()) {
            let _ = write!(text, " ({fix})");
        }
        text
    }

    /// `url` is null as long as the pages about errors are not on the web.
    fn json(&self, mistake: &Mistake) -> String {
        let place = mistake.place.as_ref();
        json!({
            "code": mistake.code.id,
            "severity": mistake.severity.as_str(),
            "message": mistake.message,
            "file": &**self.source.name(),
            "line": place.map(|place| place.line),
            "column": place.map(|place| place.column),
            "path": mistake.path,
            "help": mistake.help.as_ref().or(mistake.label.as_ref()),
            "url": null,
        })
        .to_string()
    }

    fn github(&self, mistake: &Mistake) -> String {
        let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
        let mut text = format!("::{} file={}", mistake.severity.as_str(), property(self.source.name()));
        if let Some(place) = &mistake.place {
            text += &format!(",line={},col={}", place.line, place.column);
        }
        text += &format!(",title={}::{}", mistake.code.id, data(&mistake.message));
        if let Some(fix) = mistake.help.as_ref().or(mistake.label.as_ref()) {
            text += &format!("%0A{}", data(fix));
        }
        text
    }
}
