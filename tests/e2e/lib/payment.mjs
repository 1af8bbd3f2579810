// Signing without sending: a payment in hand that a test presents when and as often as it likes.
import { x402Client } from "@x402/core/client";
import { x402HTTPClient } from "@x402/core/http";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { privateKeyToAccount } from "viem/accounts";

/** Longer than anything the gateway may take; a request that hangs fails its test. */
const PATIENCE_MS = 60_000;

/** Asks for the price of `url` and signs the first offer. */
export async function signPayment(url, payer) {
  const challenge = await ask(url);
  return signOffer((name) => challenge.headers.get(name), challenge.body, payer);
}

/** Signs the first offer of a challenge: what its fields say, and its body. */
export async function signOffer(field, body, payer) {
  const wallet = new x402Client().register("eip155:*", new ExactEvmScheme(privateKeyToAccount(payer.key)));
  const client = new x402HTTPClient(wallet);
  const required = client.getPaymentRequiredResponse(field, body);
  const payload = await client.createPaymentPayload(required);
  const [[name, value]] = Object.entries(client.encodePaymentSignatureHeader(payload));
  return { name, value, amount: payload.accepted.amount, signature: payload.payload.signature };
}

/** Sends a request, with a payment or without, and reads all that comes back. */
export async function ask(url, payment) {
  const headers = payment ? { [payment.name]: payment.value } : {};
  const response = await fetch(url, { headers, signal: AbortSignal.timeout(PATIENCE_MS) });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: text && JSON.parse(text) };
}

/** What the challenge in an answer asks for, in units of the first offer. */
export function priceAsked({ headers }) {
  const required = JSON.parse(Buffer.from(headers.get("payment-required"), "base64").toString("utf8"));
  return BigInt(required.accepts[0].amount);
}
