//! What a refused client gets: the reason, and where paying is the remedy, what to pay.

use crate::payment::{Advice, Resource};
use crate::protocol::{Answer, Quoted};
use crate::tariff::RouteKey;

use super::rails::Crowded;
use super::{Event, Gate, Refusal, Visit};

impl Gate {
    /// The whole answer to a refused request.
    pub fn refuse(&self, visit: &Visit<'_>, refusal: &Refusal) -> Answer {
        let now = self.clock.now();
        let route = &visit.route.key;
        let mut problem = refusal.problem(now);
        let mut offers = Vec::new();
        let invites = matches!(problem.advice, Advice::Pay | Advice::Approve);
        if invites && let Some(barred) = self.rails.bar(visit, problem.dialect) {
            // Whatever is wrong with the payment: a better one would not be taken either.
            problem = barred.problem(now);
        } else if invites {
            offers = self.quoted(visit);
            if offers.is_empty() {
                // Nobody could settle what we would ask for, so we do not ask (S65).
                let unavailable = Refusal::FacilitatorUnavailable(problem.dialect);
                problem = unavailable.problem(now);
            }
        }
        if offers.is_empty() {
            self.observe(&Event::Refused { route: route.clone(), reason: refusal.name() });
        } else {
            if *refusal != Refusal::PaymentRequired {
                self.observe(&Event::Refused { route: route.clone(), reason: refusal.name() });
            }
            self.observe(&Event::Offered { route: route.clone(), offers: offers.len() });
        }
        self.protocol.refuse(&problem, &visit.resource(), &offers)
    }

    /// The answer to a request that has to wait because there are too many, whatever its route costs.
    pub fn crowded(&self, route: &RouteKey, crowded: Crowded) -> Answer {
        let refusal = Refusal::Crowded { dialect: None, wait: crowded.wait };
        self.observe(&Event::Refused { route: route.clone(), reason: refusal.name() });
        self.protocol.refuse(&refusal.problem(self.clock.now()), &Resource::default(), &[])
    }

    /// The offers that can be settled now, each with a quote that keeps its price.
    fn quoted<'a>(&self, visit: &Visit<'a>) -> Vec<Quoted<'a>> {
        let now = self.clock.now();
        let toll = visit.toll;
        let settleable =
            toll.offers.iter().filter(|offer| visit.screening.may_pay(offer) && self.pool.can_settle(offer));
        settleable
            .map(|offer| Quoted { offer, quote: self.quotes.issue(&visit.route.key.0, offer, now, toll.offer_ttl) })
            .collect()
    }
}
