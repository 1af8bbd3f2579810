//! One file per command.
//!
//! Data goes to standard output, talk to standard error, both through `out`. The exit code says who must act
//! ([`Verdict`]).

#![warn(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod out;

mod check;
mod demo;
mod ledger;
mod pause;
mod pay;
mod quote;
mod run;
mod schema;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

/// Where the file is looked for when nobody says.
const USUAL_PLACES: [&str; 2] = ["gateway.yaml", "/etc/tollhouse/gateway.yaml"];

/// A reverse proxy that charges for your API: prices in a YAML file, no code changes.
#[derive(Debug, Parser)]
#[command(
    name = "tollhouse",
    version,
    arg_required_else_help = true,
    before_help = "Examples:\n  tollhouse demo                                  the whole product, with play money\n  \
                   tollhouse check gateway.yaml                    every mistake in the file, with its place\n  \
                   tollhouse run -c gateway.yaml                   serve; a saved edit takes effect at once\n  \
                   tollhouse quote GET /v1/weather --why           what a request costs, and which line says so\n  \
                   tollhouse pay http://localhost:8402/v1/weather --max '$0.02'",
    after_help = "Exit codes: 0 yes · 1 no · 2 wrong usage · 3 could not find out · 4 unknown, money may have moved"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole product with play money: no wallet, no chain, no network
    Demo(demo::Demo),
    /// Serve; reloads when the file changes, or on SIGHUP
    Run(run::Run),
    /// Say every mistake in a file, with its place and the fix
    Check(check::Check),
    /// Say what a request costs, and why
    Quote(quote::Quote),
    /// Buy something: show the 402, sign, show the receipt
    Pay(pay::Pay),
    /// Look at the payments that are remembered, prove what happened to them, put things right
    Ledger(ledger::LedgerCommand),
    /// Stop selling a route, or all of them, at every process on the ledger
    Pause(pause::Pause),
    /// Sell again what was paused
    Resume(pause::Resume),
    /// List what is paused, since when, by whom and why
    Paused(pause::Paused),
    /// Print the JSON Schema of gateway.yaml, for editors
    Schema,
    /// Print the version
    Version,
}

impl Command {
    /// Whoever takes responsibility, where somebody has to.
    fn hand(&self) -> Option<&ledger::Hand> {
        match self {
            Self::Ledger(command) => command.hand(),
            Self::Pause(command) => Some(&command.hand),
            Self::Resume(command) => Some(&command.hand),
            Self::Demo(_)
            | Self::Run(_)
            | Self::Check(_)
            | Self::Quote(_)
            | Self::Pay(_)
            | Self::Paused(_)
            | Self::Schema
            | Self::Version => None,
        }
    }
}

/// Which file is meant.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration [default: ./gateway.yaml, then /etc/tollhouse/gateway.yaml]
    #[arg(short, long, value_name = "FILE", env = "TOLLHOUSE_CONFIG")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn path(&self) -> PathBuf {
        usual(self.config.as_deref())
    }
}

/// The file that was named, or the first usual place that has one.
fn usual(named: Option<&Path>) -> PathBuf {
    let found = || USUAL_PLACES.iter().map(Path::new).find(|path| path.exists());
    named.or_else(found).unwrap_or(Path::new(USUAL_PLACES[0])).to_owned()
}

/// How an answer is written. The same on a terminal and in a pipe: what is predictable beats what is clever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// For people
    Human,
    /// One JSON object a line
    Json,
}

/// What a command found, sorted by who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Done, valid, paid.
    Yes,
    /// Invalid, declined, not found.
    No,
    /// Something could not be reached, so nothing is known.
    CouldNotFindOut,
    /// Money may have moved. Do not retry blindly.
    Unknown,
}

impl Verdict {
    /// What is said of a file that means nothing: it is wrong, or could not be opened.
    fn about_file(was_read: bool) -> Self {
        if was_read { Self::No } else { Self::CouldNotFindOut }
    }
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        Self::from(match verdict {
            Verdict::Yes => 0,
            Verdict::No => 1,
            Verdict::CouldNotFindOut => 3,
            Verdict::Unknown => 4,
        })
    }
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    if command.hand().is_some_and(|hand| hand.by.is_empty()) {
        // Containers and timers have no user of their own.
        let missing = "who says so? Add --by NAME: $USER, which is taken without it, is not set here";
        Cli::command().error(ErrorKind::MissingRequiredArgument, missing).exit()
    }
    let verdict = match command {
        Command::Demo(command) => command.execute(),
        Command::Run(command) => command.execute(),
        Command::Check(command) => command.execute(),
        Command::Quote(command) => command.execute(),
        Command::Pay(command) => command.execute(),
        Command::Ledger(command) => command.execute(),
        Command::Pause(command) => command.execute(),
        Command::Resume(command) => command.execute(),
        Command::Paused(command) => command.execute(),
        Command::Schema => schema::execute(),
        Command::Version => {
            put!("tollhouse {}", env!("CARGO_PKG_VERSION"));
            Verdict::Yes
        }
    };
    out::close(verdict).into()
}

/// A runtime for a command: as many threads as the machine, or the container's quota, gives us cores.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().thread_name("tollhouse").build()
}

/// Runs a command's work to its end.
fn block_on(work: impl Future<Output = Verdict>) -> Verdict {
    match runtime() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            talk!("tollhouse: no threads can be started: {error}");
            Verdict::CouldNotFindOut
        }
    }
}

/// Whether to write in colour: on a terminal, unless `NO_COLOR` is set.
fn colourful(stream: &impl std::io::IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
