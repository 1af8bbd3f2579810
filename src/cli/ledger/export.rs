//! `tollhouse ledger export`: payments for accounting. Amounts are integers of the smallest unit.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::super::words::iso;
use super::super::{Verdict, out};
use super::list::{Which, each, json};
use super::{Ended, Place};
use crate::ledger::Entry;
use crate::payment::PaymentKey;

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    which: Which,
    /// How the payments are written
    #[arg(long, value_enum, default_value = "csv")]
    format: Form,
    /// Write signatures, too. Whoever sees one of a payment that has not settled can submit it
    #[arg(long)]
    signatures: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Comma-separated values with a header (RFC 4180)
    Csv,
    /// One JSON object a line
    Jsonl,
}

/// The columns, in this order for good: whoever reads them counts on it. New ones come last.
const COLUMNS: [&str; 21] = [
    "payment",
    "state",
    "created",
    "updated",
    "settled",
    "route",
    "request",
    "network",
    "asset",
    "symbol",
    "decimals",
    "amount",
    "payer",
    "payTo",
    "settle",
    "facilitator",
    "transaction",
    "block",
    "refund",
    "releases",
    "redemptions",
];

/// How many bytes are written at once.
const PIECE: usize = 64 * 1024;

/// Columns that hold moments; in JSON they are milliseconds since the epoch.
const MOMENTS: [&str; 3] = ["created", "updated", "settled"];

impl Export {
    pub(super) async fn run(self) -> Ended {
        let archive = self.place.look().await?;
        let mut text = String::new();
        if self.format == Form::Csv {
            let last = self.signatures.then_some("signature");
            text += &COLUMNS.into_iter().chain(last).collect::<Vec<_>>().join(",");
            text.push('\n');
        }
        each(&archive, self.which.filter(), usize::MAX, |key, found| {
            text += &self.row(key, &found.entry);
            text.push('\n');
            // Written in pieces: a line by itself would be a system call.
            if text.len() >= PIECE {
                out::write(format_args!("{text}"));
                text.clear();
            }
            Ok(())
        })
        .await?;
        out::write(format_args!("{text}"));
        Ok(Verdict::Yes)
    }

    fn row(&self, key: PaymentKey, entry: &Entry) -> String {
        let mut row = json(key, entry);
        if self.signatures {
            row["signature"] = entry.sale.payment.authorization.signature().0.to_string().into();
        }
        match self.format {
            Form::Jsonl => row.to_string(),
            Form::Csv => {
                let last = self.signatures.then_some("signature");
                let cells = COLUMNS.into_iter().chain(last).map(|column| cell(column, &row[column]));
                cells.collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// A value as CSV. A text that a spreadsheet would take for a formula is quoted with an apostrophe, as they do.
fn cell(column: &str, value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) if MOMENTS.contains(&column) => number.as_u64().map(iso).unwrap_or_default(),
        other => other.to_string(),
    };
    let text = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_cell_or_becomes_a_formula() {
        let route = |text: &str| cell("route", &text.into());
        assert_eq!(route("GET /a"), "GET /a");
        assert_eq!(route("GET /a,b"), "\"GET /a,b\"");
        assert_eq!(route("say \"a\"\nb"), "\"say \"\"a\"\"\nb\"");
        assert_eq!(route("=1+1"), "'=1+1");
        assert_eq!(cell("block", &Value::Null), "");
        assert_eq!(cell("created", &1_900_000_000_123_u64.into()), "2030-03-17T17:46:40.123Z");
        assert_eq!(cell("releases", &3.into()), "3");
    }
}
