//! Which lines are written: what an operator asks for, and what nobody can ask for (I8, S63).

use std::str::FromStr;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{LevelFilter, Targets};

/// The start of every target of our own.
const OURS: &str = "tollhouse";

/// How much is logged, in the words of `--log`: `debug`, or `info,tollhouse::gate=debug`. What it does not name keeps
/// the level of the file.
///
/// ```
/// use tollhouse::telemetry::Directives;
/// assert!("info,tollhouse::gate=debug".parse::<Directives>().is_ok());
/// assert!("loud".parse::<Directives>().is_err());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    everything: Option<LevelFilter>,
    /// Modules with levels of their own.
    modules: Vec<(String, LevelFilter)>,
}

/// Words that say nothing about how much to log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDirective {
    /// Not a level.
    #[error("`{0}` is not a level: off, error, warn, info, debug or trace, alone or as tollhouse::gate=debug")]
    Level(String),
    /// Not the path of a module.
    #[error("`{0}` is not a module: write for example tollhouse::gate=debug")]
    Module(String),
}

impl FromStr for Directives {
    type Err = BadDirective;

    fn from_str(text: &str) -> Result<Self, BadDirective> {
        let mut directives = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                None => directives.everything = Some(level(part)?),
                Some((name, word)) => directives.modules.push((module(name.trim())?, level(word.trim())?)),
            }
        }
        Ok(directives)
    }
}

/// Not what the library's own reader takes: there an empty word is a level, and any other one a module.
fn level(word: &str) -> Result<LevelFilter, BadDirective> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return Err(BadDirective::Level(word.to_owned())),
    })
}

fn module(name: &str) -> Result<String, BadDirective> {
    let is_path =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'));
    if is_path { Ok(name.to_owned()) } else { Err(BadDirective::Module(name.to_owned())) }
}

/// What was asked for: the level of the file, and the directives before it.
pub(super) fn asked(level: Level, directives: Option<&Directives>) -> Targets {
    let nothing = Directives::default();
    let directives = directives.unwrap_or(&nothing);
    let everything = directives.everything.unwrap_or(LevelFilter::from_level(level));
    directives.modules.iter().fold(Targets::new().with_default(everything), |targets, (module, level)| {
        targets.with_target(module.clone(), *level)
    })
}

/// Whether a line may be written at all. No directive overrides this.
pub(super) fn may_be_written(line: &Metadata<'_>) -> bool {
    passes(line.target(), *line.level())
}

/// Libraries quote what passes through them: whole heads with their payments and credentials, statements with their
/// values, events of the directory that the log itself may lie in. Only what is ours is written at every level. The
/// others may warn, but for Pingora: it quotes the bytes of a request that it cannot read, and calls each client that
/// hangs up an error; our own line tells what such a request meant.
fn passes(target: &str, level: Level) -> bool {
    let ours = target.strip_prefix(OURS).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    ours || (level <= Level::WARN && !target.starts_with("pingora"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s63_only_our_own_lines_are_written_at_every_level() {
        for (target, level, written) in [
            ("tollhouse", Level::TRACE, true),
            ("tollhouse::gate", Level::DEBUG, true),
            ("tollhouse_of_somebody", Level::INFO, false),
            ("pingora_proxy", Level::ERROR, false),
            ("pingora_core::protocols::http::v1::client", Level::DEBUG, false),
            ("hyper_util::client", Level::WARN, true),
            ("hyper::proto::h1", Level::TRACE, false),
            ("tokio_postgres::query", Level::DEBUG, false),
            ("notify::inotify", Level::TRACE, false),
            ("a_library_of_tomorrow", Level::INFO, false),
        ] {
            assert_eq!(passes(target, level), written, "{target} at {level}");
        }
    }

    #[test]
    fn what_no_directive_names_keeps_the_level_of_the_file() {
        let read = |text: &str| asked(Level::INFO, Some(&text.parse().expect("directives")));
        for (text, module, level, written) in [
            ("", "tollhouse::gate", Level::INFO, true),
            ("", "tollhouse::gate", Level::DEBUG, false),
            ("debug", "tollhouse::gate", Level::DEBUG, true),
            ("tollhouse::gate=debug", "tollhouse::gate", Level::DEBUG, true),
            ("tollhouse::gate=debug", "tollhouse::proxy", Level::INFO, true),
            ("tollhouse::gate=debug", "tollhouse::proxy", Level::DEBUG, false),
            ("warn, hyper=off", "tollhouse::proxy", Level::INFO, false),
            ("warn, hyper=off", "hyper", Level::ERROR, false),
        ] {
            assert_eq!(read(text).would_enable(module, &level), written, "{text:?}: {module} at {level}");
        }
    }

    #[test]
    fn directives_that_say_nothing_are_refused() {
        let refused = |text: &str| text.parse::<Directives>().expect_err(text);
        for text in ["loud", "=[[bad", "tollhouse::gate", "tollhouse=", "tollhouse=loud", "[span]=info", "debug;info"] {
            assert!(!refused(text).to_string().is_empty());
        }
        assert_eq!(refused("debgu"), BadDirective::Level("debgu".into()));
    }
}
