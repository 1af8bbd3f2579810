//! How the demo looks: plain lines, in colour on a terminal.

use std::fmt::Display;
use std::io::Write;

use super::World;
use crate::cli::colourful;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";

/// Writes the transcript to standard output.
pub(super) struct Script {
    colour: bool,
}

impl Script {
    pub(super) fn on_stdout() -> Self {
        Self { colour: colourful(&std::io::stdout()) }
    }

    /// What is about to be shown, and the file that makes it so.
    pub(super) fn opening(&mut self, world: &World) {
        self.line(&format!(
            "{}   real signatures, play money, no network",
            self.paint(BOLD, "tollhouse demo  SANDBOX")
        ));
        self.line("An API, and before it a gateway that does what this file says:");
        let text = world.home.read().unwrap_or_default();
        for line in text.lines() {
            self.line(&format!("   {}", self.paint(DIM, line)));
        }
        if let Some(note) = &world.note {
            self.line(note);
        }
    }

    pub(super) fn act(&mut self, number: u8, title: &str) {
        self.line(&format!("\n{}", self.paint(BOLD, &format!("{number}  {title}"))));
    }

    /// A command, as one would type it.
    pub(super) fn typed(&mut self, command: &str) {
        self.line(&format!("   $ {command}"));
    }

    /// What came back.
    pub(super) fn came(&mut self, text: &str) {
        self.line(&format!("   {}", self.paint(DIM, text)));
    }

    /// What has been checked.
    pub(super) fn held(&mut self, what: &str) {
        self.line(&format!("   {} {what}", self.paint(GREEN, "√")));
    }

    pub(super) fn mishap(&mut self, what: &impl Display) {
        self.line(&format!("   {} {what}", self.paint(RED, "×")));
    }

    /// The end of `--once`.
    pub(super) fn curtain(&mut self) {
        self.line("\nEvery step did what it should.");
    }

    /// What to try next.
    pub(super) fn invitation(&mut self, world: &World) {
        let (url, file) = (world.url(), world.home.file().display());
        // As it was called, so that the line works where it was called.
        let tollhouse = std::env::args().next().unwrap_or_else(|| "tollhouse".to_owned());
        self.line(&format!("\n{}", self.paint(BOLD, "Your turn: the gateway serves until Ctrl-C")));
        self.line(&format!("   curl -i {url}"));
        self.line(&format!("   {tollhouse} pay {url} --max '$0.05'"));
        self.line(&format!("   ${{EDITOR:-vi}} {file}   # save another price"));
        if let Some(status) = world.serving.server().status_address() {
            self.line(&format!("   curl http://{status}/metrics"));
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&self, text: &str) {
        // A reader that hung up does not change what is being checked.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }
}
