//! Facilitators from their descriptions.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::AbortHandle;

use crate::config;
use crate::facilitator::chain::{Chain, Found};
use crate::facilitator::{
    self, BoxError, Facilitator, Kind, Local, Remote, Sandbox, Witness, Witnessed,
};
use crate::payment::{Payment, TransactionHash};
use crate::primitives::{Caip2, Clock};

use super::StartError;

/// The facilitators in force, each with the description it was made from.
#[derive(Default)]
pub(super) struct Facilitators(Vec<Member>);

struct Member {
    config: facilitator::Config,
    facilitator: Arc<dyn Facilitator>,
    refreshing: Option<AbortHandle>,
}

impl Facilitators {
    /// Makes what the file describes. One whose description did not change stays as it is, with all it knows; one
    /// that is gone stops refreshing what it knows but can still be asked how its settlements ended.
    pub(super) fn adopt(
        &mut self,
        live: &config::Live,
        clock: &Arc<dyn Clock>,
    ) -> Result<Vec<Arc<dyn Facilitator>>, StartError> {
        let witness = Nodes::new(live, clock)?;
        let mut before = std::mem::take(&mut self.0);
        let mut now = Vec::new();
        for config in &live.facilitators {
            let kept = before.iter().position(|member| member.config == *config).map(|at| before.swap_remove(at));
            let member = match kept {
                Some(member) => member,
                None => match make(config, live, &witness, clock) {
                    Ok(facilitator) => Member { config: config.clone(), facilitator, refreshing: None },
                    Err(source) => {
                        now.append(&mut before);
                        self.0 = now;
                        return Err(StartError::Facilitator { name: config.name.to_string(), source });
                    }
                },
            };
            now.push(member);
        }
        for gone in before {
            if let Some(refreshing) = gone.refreshing {
                refreshing.abort();
            }
        }
        for member in now.iter_mut().filter(|member| member.refreshing.is_none()) {
            let facilitator = Arc::clone(&member.facilitator);
            member.refreshing = Some(tokio::spawn(async move { facilitator.refresh().await }).abort_handle());
        }
        self.0 = now;
        Ok(self.0.iter().map(|member| Arc::clone(&member.facilitator)).collect())
    }
}

impl Drop for Facilitators {
    fn drop(&mut self) {
        for member in &self.0 {
            if let Some(refreshing) = &member.refreshing {
                refreshing.abort();
            }
        }
    }
}
