//! Posts a new price table; keeps the old one if the new is wrong.

use std::sync::Arc;

use crate::tariff::{Change, changes};
use crate::{config, ledger};

use super::{Server, StartError, facilitators, lists, picture};

/// What a reload changed.
#[derive(Debug)]
pub struct Reloaded {
    /// What changed for customers, in money.
    pub changes: Vec<Change>,
    /// Keys that the file changes and only a restart applies.
    pub restart_needed: Vec<&'static str>,
}

impl Server {
    /// Puts a new configuration in force: all of it that a running process can change, or nothing. Requests under way
    /// go on under the one they began with, and offers already made keep their price (S37).
    ///
    /// # Errors
    /// When the open ledger is not for this file's money, or a facilitator cannot be set up; then everything stays as it
    /// was.
    pub async fn reload(&mut self, config: config::Config, hash: &str) -> Result<Reloaded, StartError> {
        let config::Config { boot, live } = config;
        self.refuse_other_money(&live)?;
        let restart_needed = self.needs_restart(&boot, &live);
        facilitators::check_chains(&live, &self.clock).await?;
        let before = self.live.load_full();
        let next = picture(&live, Some(&before)).await;

        // Nothing is waited for from here on, so a process that is told to stop leaves no half of it in force.
        let facilitators = self.facilitators.adopt(&live, &self.clock)?;
        // The board first: whoever was quoted the old price a moment ago finds it there when the new one is up.
        self.board.post(Arc::clone(&live.tariff), self.clock.now());
        self.pool.replace(facilitators);
        self.gate.cap(live.caps);
        self.crowd.cap(live.per_client);
        self.gate.wallets().replace(self.facilitators.accepted(&live.wallets));
        lists::tell_shrunken(&before.screening, &live.screening);
        self.live.store(Arc::new(next));
        self.shutdown = live.shutdown;
        lists::note(&live.screening, &*self.clock, &self.metrics);
        self.telemetry.reconfigure(live.log.clone());
        self.metrics.configured(hash, !live.live_networks.is_empty(), &live.tariff);
        self.metrics.restart_needed(!restart_needed.is_empty());
        Ok(Reloaded { changes: changes(&before.tariff, &live.tariff), restart_needed })
    }

    /// Notes how a reload ended: `ok` or `failed`.
    pub fn note_reload(&self, result: &'static str) {
        self.metrics.reloaded(result);
    }

    /// The file was checked with the ledger that it names, but the one that is open stays. Real money must not be
    /// remembered where it is forgotten, nor beside play money (S5).
    fn refuse_other_money(&self, live: &config::Live) -> Result<(), StartError> {
        let stays = match self.boot.ledger {
            ledger::Config::Memory => false,
            ledger::Config::Sqlite { real_money, .. } => real_money,
            ledger::Config::Postgres { .. } => true,
        };
        let real_money = !live.live_networks.is_empty();
        if live.sandbox != self.sandbox || (real_money && !stays) {
            return Err(StartError::OtherMoney);
        }
        Ok(())
    }

    fn needs_restart(&self, boot: &config::Boot, live: &config::Live) -> Vec<&'static str> {
        let differs = [
            ("log.format", self.log.format != live.log.format),
            ("log.level", self.log.level != live.log.level),
            ("listen", self.boot.listen != boot.listen),
            ("status", self.boot.status != boot.status),
            ("admin", self.boot.admin != boot.admin),
            ("ledger", self.boot.ledger != boot.ledger),
            ("caps.connections", self.boot.connections != boot.connections),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}
