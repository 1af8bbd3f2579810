//! What finding a route costs, and whether that depends on the size of the table; what loading a large table costs.
//!
//! The promises: a lookup among 100,000 routes takes at most a microsecond and at most three times as long as one
//! among ten, and 100,000 routes load within two seconds.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::Method;
use tollhouse::config;
use tollhouse::proxy::target::Target;
use tollhouse::tariff::{Charge, EncodedSlash, Limits, Place, Route, RouteKey, Slash, Table, Tariff, parse_key};

/// A hundred actions for each service, so that both levels branch; the lines at the end are broader than many.
fn routes(count: usize) -> Vec<Arc<Route>> {
    let mut keys: Vec<String> =
        (0..count - 3).map(|number| format!("GET /v1/service{}/{{id}}/action{}", number / 100, number % 100)).collect();
    keys.extend(["/v1/**", "GET /docs/**", "POST /v1/service0"].map(str::to_owned));
    keys.iter().map(|key| route(key)).collect()
}

fn route(key: &str) -> Arc<Route> {
    let (methods, pattern) = parse_key(key).expect("a key");
    Arc::new(Route {
        key: RouteKey(key.into()),
        methods,
        pattern,
        charge: Charge::Free,
        upstream: "app".into(),
        public_url: "https://api.example.com".into(),
        limits: Limits::new(1 << 20, Duration::from_secs(60)),
        encoded_slash: EncodedSlash::Refuse,
        rewrite: None,
        place: Place { file: "gateway.yaml".into(), line: 1, column: 1 },
    })
}

fn tariff(routes: &[Arc<Route>]) -> Tariff {
    Tariff::new(vec![Table { host: None, slash: Slash::Distinct, routes: routes.to_vec() }]).expect("no collision")
}

/// A thousand targets from all over the table, so that a large one does not fit the caches by accident.
fn targets(count: usize, id: &str) -> Vec<Target> {
    let number = |step: usize| step * 7919 % (count - 3);
    (0..1024)
        .map(number)
        .map(|number| format!("/v1/service{}/{id}/action{}?q=1", number / 100, number % 100))
        .map(|text| Target::parse(text.as_bytes()).expect("a canonical target"))
        .collect()
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find");
    for (count, id, name) in [
        (10, "42ab", "lower case"),
        (100_000, "42ab", "lower case"),
        // A capital in the path asks for the second reading (S38).
        (10, "42AB", "capitals"),
        (100_000, "42AB", "capitals"),
    ] {
        let tariff = tariff(&routes(count));
        let targets = targets(count, id);
        let mut turn = targets.iter().cycle();
        group.bench_function(BenchmarkId::new(name, count), |bencher| {
            bencher.iter(|| {
                let target = turn.next().expect("a cycle never ends");
                black_box(tariff.find(None, &Method::GET, black_box(target).segments()))
            });
        });
    }
    group.finish();
}

fn load(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10);
    let routes = routes(100_000);
    group.bench_function("table of 100000", |bencher| bencher.iter(|| tariff(black_box(&routes))));
    let file = file(100_000);
    group.bench_function("gateway.yaml of 100000", |bencher| {
        bencher
            .iter(|| config::parse(black_box(&file), "gateway.yaml", Path::new("."), &|_| None).config.expect("good"));
    });
    group.finish();
}

/// The same table as an operator writes it.
fn file(count: usize) -> String {
    let mut text = String::from(
        "version: 1\npublic_url: http://localhost\nupstream: http://127.0.0.1:3000\npay_to: sandbox\nroutes:\n",
    );
    for route in routes(count) {
        text.push_str(&format!("  {}: $0.01\n", route.key.0));
    }
    text
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("target");
    for text in ["/v1/service7/42ab/action9?q=1", "/v1/caf%c3%a9/42%20ab/action9?q=1"] {
        group.bench_function(text, |bencher| bencher.iter(|| Target::parse(black_box(text.as_bytes()))));
    }
    group.finish();
}

criterion_group!(benches, find, load, parse);
criterion_main!(benches);
