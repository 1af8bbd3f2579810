// What a seller would use instead of a gateway: Express, the stock payment middleware, and a proxy middleware before the
// same backend. Its facilitator says yes in this process and checks nothing, so no hop is counted and no signature.
//   node server.mjs BACKEND        prints its address
import express from "express";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import { ExactEvmScheme } from "@x402/evm/exact/server";
import { createProxyMiddleware } from "http-proxy-middleware";
import { Agent } from "node:http";

const NETWORK = "eip155:84532";
const payer = (payload) => payload.payload.authorization.from;
const facilitator = {
  getSupported: async () => ({ kinds: [{ x402Version: 2, scheme: "exact", network: NETWORK }], extensions: [], signers: {} }),
  verify: async (payload) => ({ isValid: true, payer: payer(payload) }),
  settle: async (payload) => ({ success: true, transaction: `0x${"5".repeat(64)}`, network: NETWORK, payer: payer(payload) }),
};

const accepts = { scheme: "exact", price: "$0.01", network: NETWORK, payTo: "0x1111111111111111111111111111111111111111" };
const resources = new x402ResourceServer(facilitator).register(NETWORK, new ExactEvmScheme());
const target = `http://${process.argv[2]}`;

const app = express();
app.use(paymentMiddleware({ "GET /paid": { accepts, description: "", mimeType: "application/json" } }, resources));
app.use(createProxyMiddleware({ target, agent: new Agent({ keepAlive: true }) }));
const server = app.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${server.address().port}`));
process.stdin.on("end", () => process.exit(0)).resume();
