//! Spellings that a list, a range or a country must not be slipped by.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy::primitives::address;
use http::{HeaderMap, HeaderName};

use super::*;

const LISTED: Address = address!("0x7F367cC41522cE07553e823bf3be79A889DEbe1B");
const NOW: Timestamp = Timestamp::from_secs(1_900_000_000);

fn list(text: &str) -> Result<AddressList, ListError> {
    AddressList::parse(text, "list.txt", NOW, Some(Duration::from_secs(60)))
}

fn ranges(texts: &[&str]) -> Ranges {
    texts.iter().map(|text| Ranges::parse_one(text).expect("a range")).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn s35_an_address_is_found_in_whatever_case_the_list_spells_it() {
    let digits = "7F367cC41522cE07553e823bf3be79A889DEbe1B";
    for text in [
        format!("0x{digits}\n"),
        format!("0x{}", digits.to_lowercase()),
        format!("0X{}\r\n", digits.to_uppercase()),
        format!("\u{feff}# from somewhere\r\n\r\n  0x{digits}  # a name, and when\n"),
        format!("0x{}\n0x{digits}\n0x{digits}", "11".repeat(20)),
    ] {
        let list = list(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(list.names(LISTED), "{text}");
        assert!(!list.names(Address::ZERO));
    }
}

#[test]
fn s35_a_list_with_anything_else_in_it_is_no_list() {
    let good = format!("0x{}\n", "11".repeat(20));
    for (line, wrong) in [
        (2, "0x1234\n"),
        (2, "1111111111111111111111111111111111111111\n"),
        (2, "0x0x11111111111111111111111111111111111111\n"),
        (2, "0x111111111111111111111111111111111111111g\n"),
        (2, "0x1111111111111111111111111111111111111111,SDN\n"),
        (3, "\nbc1qxy2kgdygjrsqtzq2n0yrf2493p83kkfjhx0wlh\n"),
        (2, "0x11111111111111111111111111111111111111"),
        (2, "\0"),
    ] {
        assert_eq!(list(&format!("{good}{wrong}")).err(), Some(ListError::Line(line)), "{wrong}");
    }
    for empty in ["", "\n", "# nobody\n", "\u{feff}"] {
        assert_eq!(list(empty).err(), Some(ListError::Empty), "{empty:?}");
    }
}

#[test]
fn a_long_list_is_looked_up_as_a_short_one_is() {
    let text: String = (0..100_000_u64).map(|number| format!("0x{number:040x}\n")).collect();
    let list = list(&text).expect("a list");
    assert_eq!(list.len(), 100_000);
    let account = |number: u64| Address::left_padding_from(&number.to_be_bytes());
    assert!(list.names(account(0)) && list.names(account(99_999)) && !list.names(account(100_000)));
}

#[test]
fn s35_a_list_ages_and_a_clock_that_goes_back_makes_it_no_older() {
    let list = list(&format!("{LISTED}")).expect("a list");
    let at = |seconds| NOW.after(Duration::from_secs(seconds));
    assert!(!list.is_stale(at(60)) && list.is_stale(at(61)));
    assert!(!list.is_stale(Timestamp::EPOCH) && list.age(Timestamp::EPOCH).is_zero());
}

#[test]
fn s35_an_ipv4_client_is_the_same_in_the_clothes_of_ipv6() {
    for spelled in ["203.0.113.0/24", "::ffff:203.0.113.0/120"] {
        let denied = ranges(&[spelled, "2001:db8::/32", "198.51.100.7"]);
        for inside in ["203.0.113.0", "203.0.113.255", "::ffff:203.0.113.9", "2001:db8::1", "198.51.100.7"] {
            assert!(denied.contains(ip(inside)), "{inside} slipped through {spelled}");
        }
        for outside in ["203.0.112.255", "203.0.114.0", "2001:db9::", "::203.0.113.9", "198.51.100.8", "0.0.0.0"] {
            assert!(!denied.contains(ip(outside)), "{outside} is not in {spelled}");
        }
    }
    assert!(!ranges(&["::/0"]).contains(ip("::ffff:203.0.113.9")), "a range of IPv6 holds no IPv4");
}

#[test]
fn ranges_within_ranges_are_one() {
    let denied = ranges(&["10.1.0.0/16", "10.0.0.0/8", "10.1.2.0/24", "192.168.0.0/17", "192.168.128.0/17"]);
    assert_eq!(denied, ranges(&["10.0.0.0/8", "192.168.0.0/16"]));
    assert!(denied.contains(ip("10.255.0.1")) && denied.contains(ip("192.168.200.1")));
}

#[test]
fn a_range_begins_where_it_says() {
    assert_eq!(
        Ranges::parse_one("203.0.113.7/24"),
        Err(RangeError::Inside("203.0.113.0/24".parse().expect("a range")))
    );
    for text in ["", "203.0.113.0/33", "203.0.113", "203.0.113.0/24 ", "example.com", "010.0.0.1"] {
        assert_eq!(Ranges::parse_one(text), Err(RangeError::Unreadable), "{text}");
    }
}

#[test]
fn whose_address_is_not_known_is_let_through_by_no_rule_about_addresses() {
    assert!(!Clients::default().refuse(None));
    assert!(Clients { deny: ranges(&["10.0.0.0/8"]), allow: None }.refuse(None));
    assert!(Clients { allow: Some(ranges(&["10.0.0.0/8"])), ..Clients::default() }.refuse(None));
    let both = Clients { allow: Some(ranges(&["10.0.0.0/8"])), deny: ranges(&["10.1.0.0/16"]) };
    assert!(
        !both.refuse(Some(ip("10.0.0.1"))) && both.refuse(Some(ip("10.1.0.1"))) && both.refuse(Some(ip("11.0.0.1")))
    );
}

#[test]
fn s35_a_country_is_believed_from_whom_the_file_names_and_only_if_it_is_one() {
    let countries = Countries {
        header: HeaderName::from_static("cf-ipcountry"),
        from: ranges(&["10.0.0.0/8"]),
        deny: BTreeSet::from([Country::parse(b"xx").expect("a country")]),
    };
    let said = |lines: &[&str]| {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append("cf-ipcountry", line.parse().expect("a value"));
        }
        fields
    };
    let proxy = Some(ip("::ffff:10.0.0.1"));
    assert_eq!(countries.of(proxy, &said(&["de"])), Country::parse(b"DE"));
    assert_eq!(countries.of(proxy, &said(&["T1"])), Country::parse(b"T1"));
    for unclear in [&["DE", "XX"][..], &["DE, XX"], &["DEU"], &["D"], &[""], &["D\u{e9}"], &[]] {
        assert_eq!(countries.of(proxy, &said(unclear)), None, "{unclear:?}");
    }
    for stranger in [Some(ip("11.0.0.1")), Some(ip("::1")), None] {
        assert_eq!(countries.of(stranger, &said(&["DE"])), None, "a stranger says what they like");
    }
}
