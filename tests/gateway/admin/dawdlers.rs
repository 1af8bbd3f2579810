//! Whoever takes their time at the admin API (S62, I7).

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollhouse::admin::LONGEST_VISIT;
use tollhouse::primitives::Place;

use super::{House, TOKEN, asking, assert_refused};

#[tokio::test]
async fn s62_i7_whoever_never_ends_is_sent_away_and_keeps_nobody_out() {
    let house = House::with_port().await;
    let Place::Port(address) = house.world.gateway.admin().expect("its file has one") else {
        panic!("it is a port");
    };
    let mut begins = TcpStream::connect(address).await.expect("it listens");
    begins.write_all(b"GET /pauses HTTP/1.1\r\nhost: localhost\r\nx-").await.expect("it is there");
    let never_ends = async {
        let mut heard = Vec::new();
        // A connection that is reset has ended as well.
        let _ = begins.read_to_end(&mut heard).await;
        assert_eq!(String::from_utf8_lossy(&heard), "", "half a head is no request");
    };
    let slow_body = format!(
        "POST /pause HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    let no_body = async { assert_refused(&house.say(slow_body.as_bytes()).await, 408, "body_too_slow") };
    let answered = async { assert_eq!(house.say(&asking("/pauses").bytes()).await.status, 200) };
    let all = async { tokio::join!(never_ends, no_body, answered) };
    // On a busy machine longer than its own limit, but not for ever.
    tokio::time::timeout(LONGEST_VISIT * 3, all).await.expect("everybody is gone");
    house.assert_sells().await;
}
