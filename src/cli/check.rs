//! `tollhouse check`: every mistake of a file at once. Asks nobody.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Verdict, colourful, out, usual};
use crate::config::{self, Format};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The file [default: ./gateway.yaml, then /etc/tollhouse/gateway.yaml]
    #[arg(value_name = "FILE", env = "TOLLHOUSE_CONFIG")]
    file: Option<PathBuf>,
    /// How the report is written
    #[arg(long, value_enum, default_value = "human")]
    format: ReportShape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportShape {
    /// With the lines and where in them
    Human,
    /// One line a mistake
    Short,
    /// One JSON object a mistake
    Json,
    /// Annotations of GitHub Actions
    Github,
}

impl Check {
    pub(super) fn execute(self) -> Verdict {
        let loaded = config::load(&usual(self.file.as_deref()));
        let format = match self.format {
            ReportShape::Human => Format::Human,
            ReportShape::Short => Format::Short,
            ReportShape::Json => Format::Json,
            ReportShape::Github => Format::Github,
        };
        let report = loaded.report.render(format, colourful(&std::io::stdout()));
        out::write(format_args!("{report}"));
        if loaded.config.is_some() { Verdict::Yes } else { Verdict::about_file(loaded.was_read()) }
    }
}
