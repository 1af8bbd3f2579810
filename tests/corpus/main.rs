//! Requests as bytes, sent to a real gateway in front of backends that read paths in four different ways.
//!
//! What is sent, answered and forwarded stands in files beside this one; README.md says how to read them.

mod http2;
mod nginx;
mod property;
mod script;
mod shop;
mod toy;

use script::Alias;
use shop::Shop;
use toy::Manner;

/// Fewer than this many spellings would not be the corpus that was promised.
const FEWEST: usize = 300;

#[tokio::test]
async fn s38_no_alias_of_a_priced_path_returns_its_body_unpaid() {
    let aliases = script::aliases("targets");
    assert!(aliases.len() >= FEWEST, "only {} aliases", aliases.len());
    assert_as_written(&Shop::open().await, &aliases).await;
}

#[tokio::test]
async fn s38_no_alias_of_a_priced_path_returns_its_body_unpaid_over_http2() {
    let shop = Shop::with_http2().await;
    let mut wrong = Vec::new();
    for manner in Manner::ALL {
        for alias in script::aliases("targets") {
            wrong.extend(http2::try_alias(&shop, manner, &alias).await);
        }
        assert!(shop.sells(manner.host()).await, "who pays gets what is for sale at {manner:?}");
    }
    assert!(wrong.is_empty(), "{} surprises:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn s38_s41_s43_s44_s48_a_stream_says_one_thing_to_every_reader() {
    let files = script::names("streams");
    assert_eq!(files, ["bodies.txt", "fields.txt", "targets.txt"]);
    let mut wrong = Vec::new();
    for file in files {
        for exchange in script::streams(&file) {
            wrong.extend(http2::play(&Shop::with_http2().await, &exchange).await);
        }
    }
    assert!(wrong.is_empty(), "{} surprises:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn s38_a_slash_that_makes_no_difference_makes_none_in_the_price() {
    assert_as_written(&Shop::without_slashes().await, &script::aliases("same")).await;
}

/// Sends every alias to each of the four backends.
async fn assert_as_written(shop: &Shop, aliases: &[Alias]) {
    let mut wrong = Vec::new();
    for manner in Manner::ALL {
        for alias in aliases {
            wrong.extend(shop.try_alias(manner, alias).await);
        }
        assert!(shop.sells(manner.host()).await, "who pays gets what is for sale at {manner:?}");
    }
    assert!(wrong.is_empty(), "{} surprises:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn s40_s41_a_host_is_one_and_a_target_agrees_with_it() {
    assert_played("hosts.txt").await;
}

#[tokio::test]
async fn s43_a_request_ends_in_one_place_for_every_reader() {
    assert_played("framing.txt").await;
}

#[tokio::test]
async fn s43_other_versions_of_http_are_spoken_or_refused() {
    assert_played("versions.txt").await;
}

#[tokio::test]
async fn s39_s40_s43_s44_s45_s48_the_backend_gets_the_fields_that_are_meant_for_it() {
    assert_played("fields.txt").await;
}

#[tokio::test]
async fn s43_s51_nothing_becomes_something_else_on_its_way() {
    assert_played("upgrades.txt").await;
}

#[tokio::test]
async fn s50_s57_a_part_costs_what_the_whole_costs_and_a_question_nothing() {
    assert_played("parts.txt").await;
}

#[tokio::test]
async fn s38_a_path_that_the_backend_has_elsewhere_stays_below_its_prefix() {
    assert_played("rewritten.txt").await;
}

#[test]
fn every_file_of_requests_is_sent() {
    let all = ["fields.txt", "framing.txt", "hosts.txt", "parts.txt", "rewritten.txt", "upgrades.txt", "versions.txt"];
    assert_eq!(script::names("requests"), all);
}

/// Sends every script of a file, each to a shop of its own, so that none can leave something behind for the next.
async fn assert_played(file: &str) {
    let mut wrong = Vec::new();
    for script in script::requests(file) {
        wrong.extend(Shop::open().await.play(&script).await);
    }
    assert!(wrong.is_empty(), "{} surprises:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn s38_no_alias_of_a_priced_path_gets_its_body_from_nginx() {
    let nginx = nginx::Nginx::start();
    for address in nginx.addresses() {
        let shop = Shop::before(&format!("http://{address}")).await;
        let mut wrong = Vec::new();
        for alias in script::aliases("targets") {
            wrong.extend(shop.try_alias_at("nginx.test", &alias).await);
        }
        assert!(wrong.is_empty(), "{} surprises:\n{}", wrong.len(), wrong.join("\n"));
        assert!(shop.sells("nginx.test").await, "nginx has the body that is for sale");
    }
}
