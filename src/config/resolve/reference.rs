//! `{env: NAME}` and `{file: PATH}`: values that stand outside of the file.

use std::path::{Path, PathBuf};

use super::Surroundings;
use super::scalar::shown;
use crate::config::codes;
use crate::config::lists::ListFile;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw::Reference;
use crate::config::source::Span;
use crate::config::tree::Text;
use crate::primitives::Secret;
use crate::primitives::file::{FileError, read_bounded, read_secret};

/// The certificates that a system trusts, all of them together, are no longer.
const MOST_DOCUMENT_BYTES: u64 = 1 << 20;
const ONE_SECRET: &str = "name a file that holds the secret and nothing else";

/// A secret: never written in the file itself (S60).
pub(super) fn secret(
    reference: &Reference,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<Secret<String>> {
    let (value, span) = match reference {
        Reference::Literal(text) => {
            mistakes.add(
                Mistake::error(&codes::INLINE_SECRET, text.span, "a secret stands in the file itself")
                    .note("whoever can read this file, its history or its backups can use it; replace it")
                    .help("put it in a file and write {file: /run/secrets/NAME}, or write {env: NAME}"),
            );
            return None;
        }
        Reference::Variable(name) => (variable(name, around, mistakes)?, name.span),
        Reference::File(path) => (file(path, around, mistakes)?, path.span),
    };
    if value.expose().is_empty() {
        mistakes.add(Mistake::error(&codes::EMPTY_SECRET, span, "the secret is empty").help("put the secret there"));
        return None;
    }
    Some(value)
}

/// A secret that has to be a file, with its path.
pub(super) fn secret_file(
    reference: &Reference,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<(PathBuf, Secret<String>)> {
    let Reference::File(path) = reference else {
        mistakes
            .add(Mistake::error(&codes::SHAPE, reference.span(), "this has to be a file").help("write {file: PATH}"));
        return None;
    };
    let text = file(path, around, mistakes)?;
    Some((around.directory.join(&*path.text), text))
}

/// A value that may be literal, or come from a variable, but is no secret.
pub(super) fn plain(reference: &Reference, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<String> {
    match reference {
        Reference::Literal(text) => Some(text.text.to_string()),
        Reference::Variable(name) => variable(name, around, mistakes).map(|value| value.expose().clone()),
        Reference::File(path) => {
            mistakes.add(not_from_file(path.span));
            None
        }
    }
}

/// The address of a node: often holds an access key, so it is kept like a secret, but may be literal.
pub(super) fn node(
    reference: &Reference,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<Secret<String>> {
    let url = match reference {
        Reference::Literal(text) => Secret::new(text.text.to_string()),
        Reference::Variable(name) => variable(name, around, mistakes)?,
        Reference::File(path) => file(path, around, mistakes)?,
    };
    let fits =
        url::Url::parse(url.expose()).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !fits {
        mistakes.add(
            Mistake::error(&codes::URL, reference.span(), "this is not the URL of a node")
                .help("write https://…, or {env: NAME} when it holds an access key"),
        );
    }
    fits.then_some(url)
}

/// A value that a reviewer must see.
pub(super) fn literal(reference: &Reference, what: &str, mistakes: &mut Mistakes) -> Option<Text> {
    match reference {
        Reference::Literal(text) => Some(text.clone()),
        Reference::Variable(text) | Reference::File(text) => {
            mistakes.add(
                Mistake::error(&codes::NOT_LITERAL, text.span, format!("{what} has to stand in the file itself"))
                    .help("write it out: what a reviewer approves is what is charged"),
            );
            None
        }
    }
}

/// A public file, such as certificates: everybody may read it.
pub(super) fn document(reference: &Reference, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<Vec<u8>> {
    let Reference::File(path) = reference else {
        mistakes
            .add(Mistake::error(&codes::SHAPE, reference.span(), "this has to be a file").help("write {file: PATH}"));
        return None;
    };
    match read_bounded(&around.directory.join(&*path.text), MOST_DOCUMENT_BYTES) {
        Ok(bytes) => Some(bytes),
        Err(FileError::TooLarge) => {
            let message = format!("`{}` is larger than 1 MiB", shown(&path.text));
            mistakes.add(Mistake::error(&codes::UNREADABLE, path.span, message).help("name a file of certificates"));
            None
        }
        Err(error) => {
            mistakes.add(told(&error, path).help("relative paths start at the directory of this file"));
            None
        }
    }
}

/// The file that a value comes from, for whoever watches it.
pub(super) fn watched(reference: &Reference, around: &Surroundings<'_>) -> Option<ListFile> {
    match reference {
        Reference::File(path) => Some(ListFile::look(&around.directory.join(&*path.text))),
        Reference::Literal(_) | Reference::Variable(_) => None,
    }
}

fn not_from_file(span: Span) -> Mistake {
    Mistake::error(&codes::SHAPE, span, "this value cannot come from a file").help("write it out, or {env: NAME}")
}

fn variable(name: &Text, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<Secret<String>> {
    let value = (around.variable)(&name.text);
    if value.is_none() {
        let message = format!("the environment variable `{}` is not set", shown(&name.text));
        mistakes.add(Mistake::error(&codes::UNSET, name.span, message).help("set it where the gateway is started"));
    }
    value.map(Secret::new)
}

fn file(path: &Text, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<Secret<String>> {
    let at = around.directory.join(&*path.text);
    match read_secret(&at) {
        Ok(value) => Some(value),
        Err(error @ FileError::Unreadable(_)) => {
            mistakes.add(told(&error, path).help("relative paths start at the directory of this file"));
            None
        }
        Err(error) => {
            mistakes.add(told(&error, path));
            None
        }
    }
}

/// A secret in a file that the command line names: read as strictly as one that `gateway.yaml` names. The error says
/// what is wrong and what to do.
pub(super) fn named(path: &Path) -> Result<Secret<String>, String> {
    let shown = Text { text: path.display().to_string().into(), span: Span::default(), quoted: false };
    read_secret(path).map_err(|error| {
        let Mistake { message, help, .. } = told(&error, &shown);
        help.map_or_else(|| message.clone(), |help| format!("{message}: {help}"))
    })
}

fn told(error: &FileError, path: &Text) -> Mistake {
    let path_shown = shown(&path.text);
    let refuse = |code, message: String| Mistake::error(code, path.span, message);
    match error {
        FileError::Unreadable(error) => {
            refuse(&codes::UNREADABLE, format!("`{path_shown}` cannot be read: {}", plain_words(error)))
        }
        FileError::NotAFile => refuse(&codes::UNREADABLE, format!("`{path_shown}` is not a file")).help(ONE_SECRET),
        FileError::TooLarge => {
            refuse(&codes::BAD_SECRET, format!("`{path_shown}` holds more than 64 KiB")).help(ONE_SECRET)
        }
        FileError::NotText => {
            refuse(&codes::BAD_SECRET, format!("`{path_shown}` does not hold UTF-8 text")).help(ONE_SECRET)
        }
        FileError::Open(mode) => {
            refuse(&codes::OPEN_FILE, format!("everybody can get at `{path_shown}` (mode {mode:04o})"))
                .help(format!("chmod 600 {path_shown}  (in Kubernetes: defaultMode: 0440 and an fsGroup)"))
        }
    }
}

fn plain_words(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file",
        std::io::ErrorKind::PermissionDenied => "permission denied",
        _ => "the system refuses",
    }
}
