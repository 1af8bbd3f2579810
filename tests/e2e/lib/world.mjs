// Everything around the gateway: a chain, a facilitator, an API, and the questions tests ask of them.
import assert from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseAbiItem } from "viem";
import { Gateway } from "./gateway.mjs";
import { startServer } from "./process.mjs";
import { BASE_SEPOLIA, balanceOf, connect } from "./usdc.mjs";

const TRANSFER = parseAbiItem("event Transfer(address indexed from, address indexed to, uint256 value)");

// After a crash nobody asks about a settlement before its time is up: another process may still be waiting for it.
const TIMEOUTS = "timeout: {settle: 5s}";

export class World {
  #payers;

  static async open(network = BASE_SEPOLIA) {
    const world = new World();
    world.network = network;
    world.chain = await startServer("chain.mjs", "--network", network.name);
    world.reader = connect(world.chain.rpc, undefined, network);
    world.#payers = world.chain.payers.values();
    world.facilitator = await startServer("facilitator.mjs", "--network", network.name, "--rpc", world.chain.rpc);
    world.backend = await startServer("backend.mjs");
    return world;
  }

  async close() {
    await Promise.all([this.backend, this.facilitator, this.chain].map((server) => server?.stop()));
  }

  /** A payer who has bought nothing yet. */
  newPayer() {
    const { value } = this.#payers.next();
    assert(value, "no payers left: raise PAYERS in accounts.mjs");
    return value;
  }

  /** The keys of the network with a node. */
  get node() {
    return `rpc: ["${this.chain.rpc}"]`;
  }

  /**
   * Starts a gateway in front of the backend, with prices nobody else charges. `listener` are more keys of its door, and
   * `upstream` says where requests go instead.
   */
  gateway(
    facilitator,
    routes = { "GET /v1/weather": "$0.01", "GET /v1/health": "free" },
    network = this.node,
    { listener, upstream = { targets: [this.backend.url] } } = {},
  ) {
    return Gateway.open(({ port, status, folder }) => {
      const lines = [
        "version: 1",
        `public_url: http://127.0.0.1:${port}`,
        `listen: [{address: "127.0.0.1:${port}"${listener ? `, ${listener}` : ""}}]`,
        `status: 127.0.0.1:${status}`,
        "upstream: app",
        `upstreams: {app: ${JSON.stringify(upstream)}}`,
        `pay_to: {${this.network.name}: "${this.chain.payee}"}`,
        `networks: {${this.network.name}: {${network}}}`,
        "facilitators:",
        ...facilitator(folder).map((line) => `  ${line}`),
        `ledger: "sqlite:${join(folder, "ledger.db")}"`,
        "routes:",
        ...Object.entries(routes).map(([route, price]) => `  ${route}: ${price}`),
      ];
      return `${lines.join("\n")}\n`;
    });
  }

  /** A facilitator over HTTP, as `gateway.yaml` writes it. */
  remote(url = this.facilitator.url) {
    return () => ["- name: stock", `  url: ${url}`, `  networks: [${this.network.name}]`, `  ${TIMEOUTS}`];
  }

  /** The gateway's own node and gas key. */
  local(rpc = this.chain.rpc) {
    return (folder) => {
      const key = join(folder, "gas-key");
      writeFileSync(key, this.chain.facilitator.key);
      chmodSync(key, 0o600);
      const node = `  local: {rpc: ["${rpc}"], signer: {file: "${key}"}}`;
      return ["- name: own", node, `  networks: [${this.network.name}]`, `  ${TIMEOUTS}`];
    };
  }

  async balances(payer) {
    const [paid, received] = await Promise.all(
      [payer.address, this.chain.payee].map((who) => balanceOf(this.reader, who, this.network)),
    );
    return { paid, received };
  }

  /** Every transfer of the token from this payer, from the chain's first block on. */
  transfersFrom(payer) {
    return this.reader.getLogs({ address: this.network.token, event: TRANSFER, args: { from: payer.address }, fromBlock: 0n });
  }

  /** Exactly these payments, in units, and nothing else ever left this payer for the payee. */
  async assertPaid(payer, units) {
    const transfers = await this.transfersFrom(payer);
    assert.deepEqual(
      transfers.map(({ args }) => ({ to: args.to, value: args.value })),
      units.map((value) => ({ to: this.chain.payee, value })),
    );
    return transfers;
  }

  /** The requests that reached the backend and carry this payer's name. */
  async deliveriesTo(payer) {
    const hits = await (await fetch(`${this.backend.admin}/hits`)).json();
    return hits.filter((hit) => hit.headers["tollhouse-payer"]?.toLowerCase() === payer.address.toLowerCase());
  }
}
