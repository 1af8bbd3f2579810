//! `tollhouse pay` against a gateway, and what `tollhouse ledger` then says.

use std::fs;

use crate::support::{Gateway, private_file, run, set_mode};

#[test]
fn a_purchase_ends_with_the_answer_and_a_receipt() {
    let gateway = Gateway::start();
    let paid = run(["pay", &gateway.url("/v1/weather"), "--max", "$0.02"]).exits(0);
    assert_eq!(paid.stdout, "{\"celsius\":21}\n", "the answer and nothing else");
    for talk in
        ["402  $0.01 in USDC on base-sepolia", "SANDBOX", "sign $0.01 from 0x", "200  application/json", "tx   0x"]
    {
        assert!(paid.stderr.contains(talk), "{talk} is missing from\n{}", paid.stderr);
    }
    assert_eq!(gateway.served(), 1);
}

#[test]
fn both_dialects_and_both_kinds_of_settlement_are_spoken() {
    let gateway = Gateway::start();
    for (version, dialect) in [(2, &[][..]), (1, &["--v1"])] {
        let (get, post) = (gateway.url("/v1/weather"), gateway.url("/v1/reports"));
        for request in [&[&*get][..], &[&*post, "-d", "{\"year\":2026}"]] {
            let paid = run(["pay", "--max", "2 USDC", "--format", "json"].iter().chain(request).chain(dialect))
                .exits(0)
                .json();
            assert_eq!(
                (&paid["outcome"], &paid["x402Version"], &paid["tries"]),
                (&"paid".into(), &version.into(), &1.into())
            );
            assert_eq!(paid["body"], "{\"celsius\":21}\n");
        }
    }
    assert_eq!((gateway.served(), gateway.payments().len()), (4, 4));
}

#[test]
fn above_the_limit_nothing_is_signed() {
    let gateway = Gateway::start();
    let refused = run(["pay", &gateway.url("/v1/weather"), "--max", "$0.009"]).exits(1);
    assert!(refused.stderr.contains("$0.01 is above --max $0.009; nothing was signed"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("sign "), "{}", refused.stderr);
    let looked = run(["pay", &gateway.url("/v1/weather"), "--dry-run"]).exits(0);
    assert!(looked.stderr.contains("402  $0.01") && looked.stdout.is_empty(), "{}", looked.stderr);
    assert_eq!((gateway.served(), gateway.payments().len()), (0, 0));
}

#[test]
fn what_is_free_is_not_paid_for() {
    let gateway = Gateway::start();
    let free = run(["pay", &gateway.url("/v1/health"), "--max", "$1", "--format", "json"]).exits(0).json();
    assert_eq!(free["outcome"], "free");
    let unlisted = run(["pay", &gateway.url("/v1/nothing"), "--max", "$1", "--format", "json"]).exits(1).json();
    assert_eq!((&unlisted["outcome"], &unlisted["status"]), (&"not_for_sale".into(), &404.into()));
    assert!(gateway.payments().is_empty());
}

#[test]
fn a_payer_without_money_is_declined() {
    let gateway = Gateway::start();
    let url = gateway.url("/v1/weather");
    let declined = run(["pay", &url, "--max", "$1", "--payer", "declined", "--format", "json"]).exits(1).json();
    assert_eq!((&declined["outcome"], &declined["tries"]), (&"declined".into(), &1.into()));
    assert!(declined["reason"].as_str().is_some_and(|reason| reason.contains("insufficient_balance")), "{declined}");
    assert_eq!(gateway.served(), 0);
}

#[test]
fn s13_a_settlement_nobody_knows_of_is_neither_paid_nor_declined() {
    let gateway = Gateway::start();
    let url = gateway.url("/v1/weather");
    let unknown = ["pay", &url, "--max", "$1", "--payer", "unknown"];
    let impatient = run(unknown.iter().chain(&["--wait", "0"])).exits(4);
    assert!(impatient.stderr.contains("settlement_pending; do not pay again"), "{}", impatient.stderr);
    assert!(impatient.stdout.is_empty());

    // One who pays anew and waits gets what was bought, with the payment that bought it; the new one stays unused.
    let patient = run(unknown.iter().chain(&["--format", "json"])).exits(0).json();
    assert!(patient["tries"].as_u64().is_some_and(|tries| tries > 1), "{patient}");
    let payments = gateway.payments();
    assert_eq!(payments.len(), 1, "whoever signs again is not charged again");
    assert_ne!(payments[0]["payment"], patient["payment"]);
    assert_eq!((&payments[0]["state"], &payments[0]["redemptions"]), (&"delivered".into(), &1.into()));
}

#[test]
fn a_key_is_read_from_a_file_that_others_cannot_read() {
    let gateway = Gateway::start();
    let url = gateway.url("/v1/weather");
    let directory = tempfile::tempdir().expect("a directory for the test");
    let pay = |path: &std::path::Path| {
        let path = path.display().to_string();
        run(["pay", &url, "--max", "$1", "--format", "json", "--key-file", &path])
    };

    // The first key of the well-known mnemonic `test test … junk`.
    let key = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    let path = private_file(directory.path(), "key", &format!("{key}\n"));
    assert_eq!(pay(&path).exits(0).json()["payer"], "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266");

    set_mode(&path, 0o644);
    let open = pay(&path).exits(1).json();
    assert!(open["reason"].as_str().is_some_and(|reason| reason.contains("chmod 600")), "{open}");
    for (name, text) in [("short", "0x01"), ("zero", &"0".repeat(64)), ("words", "my voice is my passport")] {
        let refused = pay(&private_file(directory.path(), name, text)).exits(1);
        assert!(!refused.stdout.contains(text) && !refused.stderr.contains(text), "s60: a secret does not print");
    }
    pay(&directory.path().join("nowhere")).exits(1);
    assert_eq!(gateway.payments().len(), 1);
}

#[test]
fn the_ledger_tells_of_a_payment_and_never_its_signature() {
    let gateway = Gateway::start();
    let paid = run(["pay", &gateway.url("/v1/weather"), "--max", "$1", "--format", "json"]).exits(0).json();
    let key = paid["payment"].as_str().expect("its name");
    gateway.until_delivered();

    let list = run(gateway.ledger_command(&["list"])).exits(0);
    assert!(list.stdout.contains("delivered") && list.stdout.contains("GET /v1/weather"), "{}", list.stdout);
    let page = run(gateway.ledger_command(&["show", key])).exits(0);
    assert!(page.stdout.contains("delivered     all status 200 bytes 15  [gateway "), "{}", page.stdout);
    let json = run(gateway.ledger_command(&["show", key, "--format", "json"])).exits(0);
    run(gateway.ledger_command(&["verify"])).exits(0);
    assert!(page.stdout.contains(key) && page.stdout.contains("$0.01 (10000 USDC units)"), "{}", page.stdout);
    for field in ["transaction", "payer"] {
        assert_eq!(json.json()[field], paid[field]);
    }
    for told in [&list, &page, &json] {
        // A signature is 65 bytes; nothing else that is told has more than 32.
        let longest = told.stdout.split(|c: char| !c.is_ascii_hexdigit()).map(str::len).max();
        assert!(longest <= Some(64) && !told.stdout.contains("signature"), "{}", told.stdout);
    }

    run(gateway.ledger_command(&["show", &"0".repeat(64)])).exits(1);
    run(gateway.ledger_command(&["show", "nonsense"])).exits(2);
    let nothing = run(gateway.ledger_command(&["list", "--state", "refund_due"])).exits(0);
    assert!(nothing.stdout.is_empty());
}

#[test]
fn a_ledger_that_is_not_there_says_nothing_about_payments() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let path = directory.path().join("ledger.db");
    run(["ledger", "list", "--ledger", &path.display().to_string()]).exits(3);
    assert!(!fs::exists(&path).expect("the directory is ours"), "looking makes no ledger");
}
