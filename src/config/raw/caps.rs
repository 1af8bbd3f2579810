//! `caps`, as it is written.

use super::Fields;
use crate::config::keys;
use crate::config::mistake::Mistakes;
use crate::config::tree::Text;

#[derive(Default)]
pub(in crate::config) struct Caps {
    pub max_price: Option<Text>,
    pub unsettled_total: Option<Text>,
    pub unsettled_per_payer: Option<Text>,
    pub per_payer_per_day: Option<Text>,
    pub unpaid_per_client: Option<Text>,
    pub connections: Option<Text>,
    pub connections_per_client: Option<Text>,
}

pub(super) fn caps(file: &Fields<'_>, mistakes: &mut Mistakes) -> Caps {
    let Some(fields) = file.fields("caps", &keys::CAPS, mistakes) else { return Caps::default() };
    Caps {
        max_price: fields.text("max_price", mistakes),
        unsettled_total: fields.text("unsettled_total", mistakes),
        unsettled_per_payer: fields.text("unsettled_per_payer", mistakes),
        per_payer_per_day: fields.text("per_payer_per_day", mistakes),
        unpaid_per_client: fields.text("unpaid_per_client", mistakes),
        connections: fields.text("connections", mistakes),
        connections_per_client: fields.text("connections_per_client", mistakes),
    }
}
