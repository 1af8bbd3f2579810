//! The gate alone, with the sandbox and the memory ledger: what a challenge costs, what admitting a payment costs
//! (decode, match, check, recover, reserve, verify), and what a spent payment costs when it is presented again.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use tollhouse::config;
use tollhouse::facilitator::sandbox::Sandbox;
use tollhouse::facilitator::{Facilitator, Pool};
use tollhouse::gate::rails::Screening;
use tollhouse::gate::{Admission, Event, Gate, Observer, Parts, Refusal, Visit};
use tollhouse::ledger::{Delivered, Ledger, Limits, Memory};
use tollhouse::payment::{Dialect, Offer, QuoteKey};
use tollhouse::primitives::{Clock as _, SystemClock};
use tollhouse::protocol::x402::{X402, client};
use tollhouse::scheme::exact::eip3009::Eip3009Exact;
use tollhouse::tariff::{Board, Charge, Route, Toll};
use tollhouse::testing::Wallet;

const FILE: &str = "version: 1\npublic_url: http://localhost:8402\nupstream: http://127.0.0.1:9\npay_to: sandbox\n\
                    routes:\n  GET /paid: $0.01\n";

struct Silent;

impl Observer for Silent {
    fn observe(&self, _: &Event) {}
}

/// A gate and the one route it sells.
struct Stand {
    gate: Arc<Gate>,
    route: Arc<Route>,
    toll: Arc<Toll>,
    wallet: Wallet,
}

impl Stand {
    fn open() -> Self {
        let loaded = config::parse(FILE, "bench.yaml", std::path::Path::new("."), &|_| None);
        let tariff = loaded.config.expect("a good file").live.tariff;
        let route = tariff.routes().next().map(Arc::clone).expect("one route");
        let Charge::Toll(toll) = &route.charge else { panic!("it has a price") };
        let toll = Arc::clone(toll);
        let clock = Arc::new(SystemClock);
        let sandbox: Arc<dyn Facilitator> =
            Arc::new(Sandbox::new("sandbox".into(), Arc::clone(&clock) as _, Default::default()));
        let gate = Gate::new(Parts {
            protocol: Arc::new(X402),
            scheme: Arc::new(Eip3009Exact),
            ledger: Ledger::new(Arc::new(Memory::new()), Arc::clone(&clock) as _, Limits::default()),
            pool: Arc::new(Pool::new(vec![sandbox])),
            board: Arc::new(Board::new(tariff)),
            quotes: QuoteKey::new(&[7; 32]),
            clock,
            observer: Arc::new(Silent),
        });
        Self { gate, route, toll, wallet: Wallet::random() }
    }

    fn offer(&self) -> &Offer {
        &self.toll.offers[0]
    }

    fn visit<'a>(&'a self, fields: &'a HeaderMap) -> Visit<'a> {
        Visit {
            route: &self.route,
            toll: &self.toll,
            fields,
            method: &Method::GET,
            host: "localhost",
            path: "/paid",
            query: None,
            connection: None,
            client: None,
            peer: None,
            screening: Screening::none(),
            turnstile: None,
        }
    }

    fn payment(&self) -> HeaderMap {
        let signed = self.wallet.accept(Dialect::V2, self.offer(), SystemClock.now());
        let resource = self.visit(&HeaderMap::new()).resource();
        let (name, value) = client::payment_for(Dialect::V2, self.offer(), None, &resource, &signed);
        HeaderMap::from_iter([(name, value)])
    }
}

fn gate(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let stand = Stand::open();

    let nothing = HeaderMap::new();
    criterion.bench_function("challenge", |bench| {
        bench.iter(|| stand.gate.refuse(&stand.visit(&nothing), &Refusal::PaymentRequired));
    });
    criterion.bench_function("admit a payment", |bench| {
        bench.iter_batched(
            || stand.payment(),
            |fields| runtime.block_on(async { stand.gate.admit(&stand.visit(&fields)).await.expect("admitted") }),
            BatchSize::LargeInput,
        );
    });
    let spent = stand.payment();
    runtime.block_on(async {
        let Ok(Admission::Confirmed(confirmed)) = stand.gate.admit(&stand.visit(&spent)).await else { panic!() };
        let settled = stand.gate.settle(confirmed).await.expect("settled");
        settled.end(Delivered::Done(None));
        stand.gate.ledger.flush().await;
    });
    criterion.bench_function("refuse a spent payment", |bench| {
        bench.iter(|| runtime.block_on(async { stand.gate.admit(&stand.visit(&spent)).await.expect_err("spent") }));
    });
}

criterion_group!(benches, gate);
criterion_main!(benches);
