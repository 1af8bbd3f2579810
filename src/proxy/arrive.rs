//! A request arrives: is it one request, where does it go, and may it pass?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderName};
use http::{HeaderMap, Method, StatusCode, Version};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use tokio::time::timeout;

use crate::gate::event::Paid;
use crate::gate::{Admission, Refusal, Repeat, Settled, Visit};
use crate::ledger::{self, Delivered};
use crate::payment::{Dialect, Replay, Resource, SettleMode};
use crate::protocol::Answer;
use crate::tariff::{Charge, Found, Toll};

use super::answer::{problem, problem_with, with_receipt};
use super::asker::Asker;
use super::grpc::Grpc;
use super::keep::{BodyDigest, Keeper};
use super::passage::{Passage, Stage};
use super::presence::{connection, has_left, watching};
use super::target::{Ambiguous, canonical_host};
use super::tunnel::asks_for_websocket;
use super::upstream::Upstream;
use super::{Proxy, fields, lookup};

/// More header fields than any client sends (S52).
const MOST_FIELDS: usize = 100;
/// More bytes of header than any client sends: Node refuses at 16 KiB, we take what a payment header may add.
const MOST_FIELD_BYTES: usize = 64 * 1024;
/// How long a request body may pause that goes nowhere; one that is forwarded obeys its upstream (S56).
const BODY_PAUSE: Duration = Duration::from_secs(60);
/// How long a client may take to accept a piece of its answer.
const WRITE_PAUSE: Duration = Duration::from_secs(60);

/// What Pingora has no client remove by naming it in `Connection`.
const HAVE_TO_STAY: [&str; 4] = ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
/// How many fields `Connection` may name; Pingora stops here.
const MOST_NAMED: usize = 9;

const ACCESS_CONTROL_REQUEST_METHOD: HeaderName = header::ACCESS_CONTROL_REQUEST_METHOD;

/// Bounds what one connection may take: it may be `idle` for so long, or not go on at all. Pingora's own keep-alive has no
/// end, and counts in seconds.
pub(super) fn bound(session: &mut Session, idle: Option<Duration>) {
    if session.get_keepalive().is_some() {
        session.set_keepalive(idle.map(|idle| idle.as_secs().max(1)));
    }
    session.set_read_timeout(Some(BODY_PAUSE));
    session.set_write_timeout(Some(WRITE_PAUSE));
}

impl Proxy {
    /// Lets the request on (`None`) or answers it.
    pub(super) async fn arrive(&self, session: &mut Session, passage: &mut Passage) -> Option<Answer> {
        passage.asker = Asker::of(session, &passage.live.trusted);
        let head = session.as_downstream().to_h1_raw();
        let way = self.find(&head, session.req_header(), passage);
        if let Some(upstream) = &passage.upstream {
            session.set_read_timeout(Some(upstream.config().idle));
        }
        if let Ok(Way::Free | Way::Priced { .. }) = &way
            && let Some(upstream) = passage.upstream.as_ref().filter(|upstream| upstream.config().health.is_some())
            && let Some(answer) = out_of_reach(upstream, false)
        {
            passage.outcome = Some("failed");
            return Some(answer);
        }
        if let Ok(Way::Free | Way::Priced { .. }) = &way
            && let Some(answer) = self.count(passage.asker.client, matches!(way, Ok(Way::Free)), passage)
        {
            passage.outcome = Some("refused");
            return Some(answer);
        }
        match way {
            Err(answer) => {
                passage.outcome.get_or_insert("turned_away");
                return Some(answer);
            }
            Ok(Way::Preflight(method)) => {
                passage.outcome = Some("preflight");
                let asked = session.req_header().headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
                return Some(self.gate.protocol.preflight(&[method], asked));
            }
            Ok(Way::Free) => passage.stage = Stage::Free,
            Ok(Way::Priced { toll, through_get }) => {
                // Until it is settled nothing of the answer may leave, interim answers included (S76).
                session.as_downstream_mut().set_ignore_info_resp(true);
                // Boxed: free routes have no need of the room that paying takes.
                if let Some(answer) = Box::pin(self.admit(session, passage, &toll, through_get)).await {
                    passage.outcome.get_or_insert(if passage.paid.is_some() { "failed" } else { "turned_away" });
                    return Some(answer);
                }
                // A client that leaves does not get free work: the answer is awaited, settled and kept for it.
                session.as_downstream_mut().set_abort_on_close(false);
            }
        }
        passage.lap("admit");
        None
    }

    /// Where the request goes, if it is one request and goes anywhere. `head` is the request as it came.
    fn find(&self, head: &[u8], request: &RequestHeader, passage: &mut Passage) -> Result<Way, Answer> {
        well_formed(request)?;
        let bad = |why: &dyn std::fmt::Display| problem(StatusCode::BAD_REQUEST, &why.to_string());
        if has_fragment(head) {
            return Err(bad(&Ambiguous::Fragment));
        }
        let raw = origin_form(request);
        let live = Arc::clone(&passage.live);
        let table = &live.tariff;
        let target = lookup::read(table, raw).map_err(|ambiguous| bad(&ambiguous))?;
        let host = host(request)?;
        let preflight = preflight_method(request);

        let look = |method: &Method| lookup::find(table, Some(&host), method, &target);
        if let Some(method) = preflight
            && let Found::Route { route, .. } = look(&method)
            && matches!(route.charge, Charge::Toll(_))
        {
            passage.route = Some(Arc::clone(route));
            passage.target = Some(target);
            return Ok(Way::Preflight(method));
        }
        let found = match look(&request.method) {
            Found::Route { route, through_get } => Ok((Arc::clone(route), through_get)),
            Found::Unlisted => Err(problem(StatusCode::NOT_FOUND, "nothing is listed here")),
            Found::UnknownHost => Err(problem(StatusCode::MISDIRECTED_REQUEST, "this host is not served here")),
            Found::EncodedSlash => Err(bad(&Ambiguous::Slash)),
            Found::Ambiguous => Err(problem(
                StatusCode::BAD_REQUEST,
                "the request differs from a listed one only in the case or form of letters, or in how a segment ends",
            )),
        };
        passage.target = Some(target);
        passage.host = host;
        let (route, through_get) = found?;
        passage.route = Some(Arc::clone(&route));
        if matches!(route.charge, Charge::Deny) {
            return Err(problem(StatusCode::NOT_FOUND, "nothing is listed here"));
        }
        if content_length(request).is_some_and(|length| length > route.limits.request_body) {
            return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "the request body is too large for this route"));
        }
        passage.upstream = live.upstreams.get(&route.upstream).map(Arc::clone);
        match route.charge.clone() {
            Charge::Toll(toll) => Ok(Way::Priced { toll, through_get }),
            Charge::Free | Charge::Deny => Ok(Way::Free),
        }
    }

    /// Counts the request where its route is limited; says why it has to wait.
    fn count(&self, client: Option<IpAddr>, free: bool, passage: &mut Passage) -> Option<Answer> {
        let route = passage.route.as_ref()?;
        if !route.limits.hold_back() {
            return None;
        }
        let turnstile = Arc::clone(passage.live.turnstiles.get(&route.key)?);
        match turnstile.arrive(client, free) {
            Ok(slot) => {
                slot.map(|slot| passage.slot.set(slot));
                passage.turnstile = Some(turnstile);
                None
            }
            Err(crowded) => Some(self.gate.crowded(&route.key, crowded)),
        }
    }

    /// Lets a request to a priced route on (`None`) or says why not.
    async fn admit(
        &self,
        session: &mut Session,
        passage: &mut Passage,
        toll: &Toll,
        through_get: bool,
    ) -> Option<Answer> {
        if session.is_upgrade_req() && !(toll.tunnel.is_some() && asks_for_websocket(session.req_header())) {
            // One payment buys one answer; a tunnel has no end to charge for, unless the route gives it one (S43, S51).
            return Some(problem(StatusCode::FORBIDDEN, "this route does not sell such connections"));
        }
        let (connection, stream) = connection(session);
        passage.stream.clone_from(&stream);
        let of_any_length = is_of_any_length(session);
        let visit = passage.visit(session.req_header(), connection.as_ref())?;
        if through_get && self.carries_payment(&visit) {
            // What is sold is the GET. Nothing is reserved, and the authorization is still good for it (S39).
            let detail = "this route is sold for GET; the payment has not been taken";
            return Some(problem_with(StatusCode::METHOD_NOT_ALLOWED, detail, header::ALLOW, "GET"));
        }
        if toll.settle == SettleMode::BeforeForward && of_any_length {
            // It would be paid for before its size is known, and might then be too large to forward.
            return Some(problem(StatusCode::LENGTH_REQUIRED, "this route needs a Content-Length; nobody was charged"));
        }
        if toll.settle == SettleMode::BeforeForward
            && let Some(answer) = passage.upstream.as_ref().and_then(|upstream| out_of_reach(upstream, true))
        {
            // Nobody is charged for a backend that is known to be out of reach (S77).
            return Some(answer);
        }
        let admitted = match stream {
            None => self.ask(&visit).await,
            Some(stream) => {
                // Beside a stream that is watched its head cannot be borrowed.
                let head = session.req_header().clone();
                let visit = passage.visit(&head, connection.as_ref())?;
                watching(session, Some(&stream), self.ask(&visit)).await
            }
        };
        match admitted {
            Ok(Admission::Confirmed(confirmed)) => {
                passage.stage = Stage::Admitted(Box::new(confirmed));
            }
            Ok(Admission::Settled(settled)) => {
                passage.paid = Some(Paid::by(&settled));
                if has_left(session) {
                    return Some(self.put_by(settled));
                }
                passage.stage = Stage::Settled(Box::new(settled));
                passage.waiting = Instant::now();
            }
            Ok(Admission::Repeat(repeat)) => return Some(Box::pin(self.repeat(session, passage, repeat)).await),
            Err((outcome, answer)) => {
                passage.outcome = Some(outcome);
                return Some(answer);
            }
        }
        if toll.replay == Replay::SameAnswer {
            passage.keeper = Some(Box::new(Keeper::new()));
        }
        None
    }

    /// Asks the gate, and has a refusal told.
    async fn ask(&self, visit: &Visit<'_>) -> Result<Admission, (&'static str, Answer)> {
        self.gate.admit(visit).await.map_err(|refusal| {
            let outcome = if refusal == Refusal::PaymentRequired { "offered" } else { "refused" };
            (outcome, self.gate.refuse(visit, &refusal))
        })
    }

    fn carries_payment(&self, visit: &Visit<'_>) -> bool {
        !matches!(self.gate.protocol.decode(visit.fields), Ok(None))
    }

    /// It was paid for while its client left: the backend is not asked, and the answer can be collected or is owed.
    /// Whoever closed only the sending side hears so.
    fn put_by(&self, settled: Settled) -> Answer {
        let receipt = self.gate.protocol.receipt(settled.receipt(), settled.dialect());
        let detail = match settled.collectable() {
            true => "the client closed its side while it paid; the same payment still gets the answer",
            false => "the client closed its side while it paid; nothing was forwarded",
        };
        settled.end(Delivered::Nothing { untouched: true });
        with_receipt(problem(StatusCode::BAD_REQUEST, detail), &receipt)
    }

    /// Answers from what is kept, if the request body is the same too (SAFETY, "Identical request").
    async fn repeat(&self, session: &mut Session, passage: &mut Passage, repeat: Repeat) -> Answer {
        let limit = passage.largest_body();
        let Repeat { answer, receipt, dialect } = repeat;
        // It holds a place, so it may not arrive for ever.
        let Ok(same) = timeout(passage.timeout(), same_body(session, limit, &answer)).await else {
            passage.outcome = Some("failed");
            return problem(StatusCode::REQUEST_TIMEOUT, "the request took too long to arrive");
        };
        if !same {
            passage.outcome = Some("refused");
            let spent = Refusal::Spent { dialect, receipt: Some(receipt) };
            return self.gate.protocol.refuse(&spent.problem(self.gate.clock.now()), &Resource::default(), &[]);
        }
        passage.outcome = Some("repeated");
        repeated(self, answer, &receipt, dialect)
    }
}

/// How a request goes on.
enum Way {
    Free,
    /// It only asks whether a page may send this method.
    Preflight(Method),
    Priced {
        toll: Arc<Toll>,
        /// It is a HEAD, and the route sells the GET.
        through_get: bool,
    },
}

/// What is said when nothing can be brought to the backend. Nothing has been reserved, and a payment is as good as before.
fn out_of_reach(upstream: &Upstream, prepaid: bool) -> Option<Answer> {
    let wait = upstream.outage(prepaid)?;
    let mut answer = problem(StatusCode::SERVICE_UNAVAILABLE, "the backend cannot be reached right now");
    answer.fields.insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
    Some(answer)
}

/// Whether the request has a body and does not say how large it is. Calls of gRPC over HTTP/2 never say, and are let
/// through: for who sends more than the route takes it is as if the backend had failed.
fn is_of_any_length(session: &mut Session) -> bool {
    let request = session.req_header();
    let is_a_call = request.version == Version::HTTP_2 && Grpc::spoken_by(request) == Some(Grpc::Native);
    !is_a_call && content_length(request).is_none() && !session.as_downstream_mut().is_body_empty()
}

async fn same_body(session: &mut Session, limit: u64, answer: &ledger::Answer) -> bool {
    let mut digest = BodyDigest::new();
    let mut left = limit;
    loop {
        match session.as_downstream_mut().read_request_body().await {
            Ok(Some(piece)) => match left.checked_sub(piece.len() as u64) {
                Some(rest) => {
                    left = rest;
                    digest.update(&piece);
                }
                None => return false,
            },
            Ok(None) => return digest.finish() == answer.request_body,
            Err(_) => return false,
        }
    }
}

fn repeated(proxy: &Proxy, kept: ledger::Answer, receipt: &crate::payment::Receipt, dialect: Dialect) -> Answer {
    let mut head = http::HeaderMap::new();
    for (name, value) in &kept.fields {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), http::HeaderValue::from_bytes(value)) {
            head.append(name, value);
        }
    }
    fields::keep_private(&mut head);
    proxy.gate.protocol.expose(&mut head);
    head.extend(proxy.gate.protocol.receipt(receipt, dialect));
    Answer { status: StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK), fields: head, body: kept.body }
}

/// Refuses what two readers could read as two different requests, and what Pingora lets through (PINGORA, 3.5).
fn well_formed(request: &RequestHeader) -> Result<(), Answer> {
    let refuse = |detail: &str| Err(problem(StatusCode::BAD_REQUEST, detail));
    let fields = &request.headers;
    if fields.len() > MOST_FIELDS {
        return Err(problem(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many header fields"));
    }
    if fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() > MOST_FIELD_BYTES {
        return Err(problem(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the header is too large"));
    }
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    // `5, 5` is the same field twice: backends disagree about it (RFC 9112, 6.3).
    if lengths.next().is_some_and(|length| !length.as_bytes().iter().all(u8::is_ascii_digit))
        || lengths.next().is_some()
    {
        return refuse("Content-Length is not one number");
    }
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    if codings.next().is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        || codings.next().is_some()
    {
        return refuse("Transfer-Encoding is not `chunked`");
    }
    if fields.contains_key(header::CONNECTION) && !connection_is_plain(fields) {
        return refuse("the Connection field names what is no field, or one that has to stay");
    }
    if request.version == Version::HTTP_11 && !fields.contains_key(header::HOST) {
        return refuse("the Host field is missing");
    }
    if ["TRACE", "CONNECT"].iter().any(|off| request.method.as_str().eq_ignore_ascii_case(off)) {
        return Err(problem(StatusCode::METHOD_NOT_ALLOWED, "this method is not served"));
    }
    Ok(())
}

/// Whether `Connection` names a few fields that may go. Pingora refuses anything else itself, but only when the request
/// is about to leave, and by then it may be paid for.
fn connection_is_plain(fields: &HeaderMap) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let stays = |name: &[u8]| HAVE_TO_STAY.iter().any(|stays| name.eq_ignore_ascii_case(stays.as_bytes()));
    let values = fields.get_all(header::CONNECTION).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut names = names.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty());
    names.by_ref().take(MOST_NAMED).all(|name| name.iter().all(is_name) && !stays(name)) && names.next().is_none()
}

/// Whether the request line has a fragment. Pingora cuts it off before anybody else sees the target.
fn has_fragment(head: &[u8]) -> bool {
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    // Empty lines in front of a request are passed over (RFC 9112, 2.2).
    head.iter().skip_while(|byte| is_end(byte)).take_while(|byte| !is_end(byte)).any(|byte| *byte == b'#')
}

/// The target in origin form. Of an absolute one Pingora keeps the path apart, once its authority has been compared
/// with `Host` (S40).
pub(super) fn origin_form(request: &RequestHeader) -> &[u8] {
    let raw = request.raw_path();
    let absolute = raw.starts_with(b"http://") || raw.starts_with(b"https://");
    match request.uri.path_and_query() {
        // What is not UTF-8 is kept apart only approximately.
        Some(origin) if absolute && request.raw_path_is_utf8() => origin.as_str().as_bytes(),
        _ => raw,
    }
}

fn host(request: &RequestHeader) -> Result<String, Answer> {
    let refuse = |detail| problem(StatusCode::BAD_REQUEST, detail);
    let mut fields = request.headers.get_all(header::HOST).iter();
    let (field, authority) = (fields.next(), request.uri.authority().map(|authority| authority.as_str()));
    // HTTP/2 has a place of its own for it, and some backends believe the one, some the other (S41).
    if fields.next().is_some() {
        return Err(refuse("the Host field is there more than once"));
    }
    let canonical = |host: &str| match host {
        "" => Some(String::new()),
        host => canonical_host(host).map(std::borrow::Cow::into_owned),
    };
    let claimed = field.map_or(Ok(authority.unwrap_or_default()), |field| field.to_str());
    let host = claimed.ok().and_then(canonical).ok_or_else(|| refuse("the Host field is not a host"))?;
    match authority.filter(|_| field.is_some()) {
        Some(other) if canonical(other).as_ref() != Some(&host) => Err(refuse("the request names two hosts")),
        _ => Ok(host),
    }
}

/// The method a CORS preflight asks for (S57).
fn preflight_method(request: &RequestHeader) -> Option<Method> {
    if request.method != Method::OPTIONS || !request.headers.contains_key(header::ORIGIN) {
        return None;
    }
    Method::from_bytes(request.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

fn content_length(request: &RequestHeader) -> Option<u64> {
    request.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
