// A facilitator as anybody would run one: the stock classes behind three HTTP endpoints, both protocol versions.
//   node facilitator.mjs --rpc URL [--network NAME] [--port N]        prints {url}
import { parseArgs } from "node:util";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { registerExactEvmScheme } from "@x402/evm/exact/facilitator";
import { createWalletClient, http, publicActions } from "viem";
import { nonceManager } from "viem/accounts";
import { facilitator as gasPayer } from "./lib/accounts.mjs";
import { announce, readBody, released, sendJson, serve } from "./lib/program.mjs";
import { NETWORKS } from "./lib/usdc.mjs";

const { values: options } = parseArgs({
  options: {
    rpc: { type: "string" },
    network: { type: "string", default: "base-sepolia" },
    port: { type: "string", default: "0" },
  },
});
if (!options.rpc) throw new Error("--rpc is required");
const { chain } = NETWORKS[options.network];

const wallet = createWalletClient({
  // Settlements may arrive together; the manager hands each its own transaction nonce.
  account: { ...gasPayer.account, nonceManager },
  chain,
  transport: http(options.rpc),
  pollingInterval: 50,
}).extend(publicActions);
const signer = toFacilitatorEvmSigner({ ...wallet, address: gasPayer.address }, { confirmationTimeoutMs: 15_000 });
const facilitator = registerExactEvmScheme(new x402Facilitator(), { signer, networks: `eip155:${chain.id}` });

const endpoints = {
  "GET /supported": async () => facilitator.getSupported(),
  "POST /verify": ({ paymentPayload, paymentRequirements }) => facilitator.verify(paymentPayload, paymentRequirements),
  "POST /settle": ({ paymentPayload, paymentRequirements }) => facilitator.settle(paymentPayload, paymentRequirements),
};

const server = await serve(async (request, response) => {
  const answer = endpoints[`${request.method} ${request.url}`];
  if (!answer) return sendJson(response, 404, { error: "not found" });
  const body = await readBody(request);
  sendJson(response, 200, await answer(body.length > 0 ? JSON.parse(body) : {}));
}, Number(options.port));

announce({ url: server.url });
await released();
process.exit(0);
