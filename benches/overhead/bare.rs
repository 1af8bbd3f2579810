//! What tollhouse is compared with: bare Pingora proxies that do nothing, or only a part of what a paid request needs.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::{HttpPeer, Result};
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;
use pingora::services::Service as _;
use tollhouse::payment::{Authorization, Dialect, Offer, Receipt, TransactionHash};
use tollhouse::primitives::{Checksummed, Payer, Timestamp};
use tollhouse::protocol::Protocol as _;
use tollhouse::protocol::x402::{PAYMENT_SIGNATURE, X402};
use tollhouse::scheme::Scheme as _;
use tollhouse::scheme::exact::eip3009::Eip3009Exact;

const LIMIT: Duration = Duration::from_secs(60);

/// An offer, and a signature that accepts it.
pub type Signed = (Offer, Authorization);

/// What a bare proxy does besides passing requests on.
pub enum Does {
    /// Nothing: the least a Pingora proxy can do.
    Nothing,
    /// It has the gateway's time limits, each of which is a timer of Pingora's for every request. The least one can put
    /// before strangers.
    Limits,
    /// The same, and for every request it recovers a signer, always the same one: at the place where the gateway does
    /// it, between a request and its backend, when the caches hold other things.
    Recovery(Signed),
    /// The same with the payment that the request carries. It reads it, recovers its signer, tells the backend who paid
    /// and the client what. It remembers nothing, so it would sell the same payment twice, and it moves no money: less
    /// than this no gateway can do that takes payments of this kind.
    Forgetful(Signed),
}

struct Bare {
    upstream: SocketAddr,
    does: Does,
}

#[async_trait]
impl ProxyHttp for Bare {
    /// Who has paid.
    type CTX = Option<Payer>;

    fn new_ctx(&self) -> Self::CTX {
        None
    }

    async fn early_request_filter(&self, session: &mut Session, _: &mut Self::CTX) -> Result<()> {
        if !matches!(self.does, Does::Nothing) {
            session.set_keepalive(Some(75));
            session.set_read_timeout(Some(LIMIT));
            session.set_write_timeout(Some(LIMIT));
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, payer: &mut Self::CTX) -> Result<bool> {
        match &self.does {
            Does::Nothing | Does::Limits => {}
            Does::Recovery((offer, authorization)) => {
                assert!(Eip3009Exact.signature(offer, authorization).is_ok());
            }
            Does::Forgetful((offer, _)) => {
                let credential = X402.decode(&session.req_header().headers).ok().flatten().expect("a payment");
                let checked = Eip3009Exact.signature(offer, &credential.authorization).expect("it is signed");
                *payer = Some(checked.authorization.payer());
            }
        }
        Ok(false)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.upstream, false, String::new());
        if !matches!(self.does, Does::Nothing) {
            let limits = &mut peer.options;
            limits.connection_timeout = Some(LIMIT);
            limits.read_timeout = Some(LIMIT);
            limits.write_timeout = Some(LIMIT);
            limits.idle_timeout = Some(Duration::from_secs(4));
        }
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        payer: &mut Self::CTX,
    ) -> Result<()> {
        if let (Does::Forgetful((offer, _)), Some(payer)) = (&self.does, payer) {
            request.remove_header(&PAYMENT_SIGNATURE);
            request.insert_header("Tollhouse-Payer", payer.to_string())?;
            request.insert_header("Tollhouse-Amount", offer.amount.to_string())?;
            request.insert_header("Tollhouse-Asset", Checksummed(offer.asset.address).to_string())?;
            request.insert_header("Tollhouse-Network", offer.network.id.as_str())?;
            request.insert_header("Tollhouse-Route", "GET /paid")?;
            request.insert_header("Tollhouse-Payment", TransactionHash::ZERO.to_string())?;
        }
        Ok(())
    }

    async fn response_filter(&self, _: &mut Session, answer: &mut ResponseHeader, payer: &mut Self::CTX) -> Result<()> {
        if let (Does::Forgetful((offer, _)), Some(payer)) = (&self.does, payer) {
            let receipt = receipt(offer, *payer);
            for (name, value) in &X402.receipt(&receipt, Dialect::V2) {
                answer.append_header(name.clone(), value.clone())?;
            }
            answer.insert_header("Cache-Control", "private")?;
            answer.append_header("Vary", "PAYMENT-SIGNATURE, X-PAYMENT")?;
        }
        Ok(())
    }
}

fn receipt(offer: &Offer, payer: Payer) -> Receipt {
    Receipt {
        payer,
        amount: offer.amount,
        network: offer.network.id.clone(),
        network_v1: None,
        transaction: TransactionHash::ZERO,
        block: None,
        settled_at: Timestamp::EPOCH,
    }
}

/// Serves until the parent is gone, by Pingora's own listener.
pub async fn serve(upstream: String, does: Does) {
    let upstream = upstream.parse().expect("the backend's address");
    let mut service = http_proxy_service(&Arc::new(ServerConf::default()), Bare { upstream, does });
    // It does not say which port it was given, so it is given one that is free.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    service.add_tcp(&free.to_string());
    let (_open, closing) = tokio::sync::watch::channel(false);
    tokio::spawn(async move { service.start_service(None, closing, 1).await });
    while TcpStream::connect(free).is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    super::announce(free);
    super::until_orphaned().await;
}
