//! `tollhouse run`: serve.

use clap::Args;

use super::words::explain;
use super::{ConfigFile, Verdict, block_on, out};
use crate::server::{self, RunError};
use crate::telemetry::Directives;

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    file: ConfigFile,
    /// How much is logged, before the file's `log.level`: `debug`, or `info,tollhouse::gate=debug`
    #[arg(long, value_name = "DIRECTIVES", env = "TOLLHOUSE_LOG")]
    log: Option<Directives>,
}

impl Run {
    pub(super) fn execute(self) -> Verdict {
        let path = self.file.path();
        block_on(async {
            match server::run(&path, self.log.as_ref()).await {
                Ok(()) => Verdict::Yes,
                Err(RunError::Config { report, was_read }) => {
                    out::speak(format_args!("{report}"));
                    Verdict::about_file(was_read)
                }
                Err(error) => {
                    talk!("tollhouse: {}", explain(&error));
                    Verdict::CouldNotFindOut
                }
            }
        })
    }
}
