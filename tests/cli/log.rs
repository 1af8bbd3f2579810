//! What the log of the real binary repeats, however much it is asked to tell.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Gateway, run, soon};

#[test]
fn s63_i8_no_level_of_the_log_repeats_a_credential() {
    for asked in ["trace", "debug,pingora_proxy=trace,pingora_core=trace,hyper=trace,log=trace", "tollhouse=trace"] {
        let gateway = Gateway::logging(asked);
        let bearer = "Authorization: Bearer hunter2";
        run(["pay", &gateway.url("/v1/weather?token=hunter2"), "--max", "$0.02", "-H", bearer]).exits(0);
        run(["pay", &gateway.url("/v1/reports"), "--max", "$2", "-d", "hunter2", "-H", bearer]).exits(0);
        let payment = "PAYMENT-SIGNATURE: hunter2\r\nAuthorization: Bearer hunter2\r\n";
        for head in [
            format!("GET /v1/health HTTP/1.1\r\nHost: localhost\r\n{payment}\r\n"),
            // None of these is a request, each in its own way.
            format!("GET /v1//x?token=hunter2 HTTP/1.1\r\nHost: localhost\r\n{payment}\r\n"),
            format!("GET /v1/health?token=hunter2 HTTP/1.1\r\nHost: a b\r\n{payment}\r\n"),
            format!("GET /v1/health HTTP/1.1\r\nHost: a\u{1}b\r\n{payment}\r\n"),
            format!("GET /v1/health HTTP/9.9\r\nHost: localhost\r\n{payment}\r\n"),
            format!("GET /v1/health HTTP/1.1\r\nHost: localhost\r\n{payment}: nameless\r\n\r\n"),
        ] {
            speak(&gateway, &head);
        }
        // Three requests are enough to know that the log is there and has come this far.
        soon("the log of the requests", || gateway.log().matches(r#""message":"request""#).count() >= 7);
        let log = gateway.log().to_lowercase();
        for secret in ["hunter2", "bearer", "payment-signature", "x-payment"] {
            let spilled = log.find(secret);
            assert!(
                spilled.is_none(),
                "{asked}: {secret} in {:?}",
                spilled.map(|at| log.get(at.saturating_sub(300)..at))
            );
        }
        assert!(log.contains(r#""message":"reserved""#), "{asked} turns on what is ours");
    }
}

/// Says these bytes and hears how the connection ends.
fn speak(gateway: &Gateway, head: &str) {
    let mut stream = TcpStream::connect(gateway.address()).expect("the gateway listens");
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    stream.write_all(head.as_bytes()).expect("the gateway reads");
    // A connection that is reset has ended too.
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn directives_that_say_nothing_are_wrong_usage() {
    for wrong in ["=[[bad", "loud", "tollhouse=loud"] {
        let ended = run(["run", "--log", wrong]).exits(2);
        assert!(ended.stderr.contains("is not a"), "{}", ended.stderr);
    }
}
