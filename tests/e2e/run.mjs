// Stock clients buy through the real gateway, on a local chain with the real token. Each test has its own payer, so
// the chain itself tells what that payer was charged.
//   node --test run.mjs        TOLLHOUSE_BIN names the binary; target/debug/tollhouse without it
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { startLoad } from "./lib/load.mjs";
import { ask, priceAsked, signPayment } from "./lib/payment.mjs";
import { eventually, pause, runBuyer } from "./lib/process.mjs";
import { broadcasts, settleCalls, stallingProxy } from "./lib/stalling-proxy.mjs";
import { WalletFactory } from "./lib/wallets.mjs";
import { World } from "./lib/world.mjs";
import { UNAPPROVED, compiledStandIn, sdkInterface, standIn } from "./lib/permit2.mjs";
import { NETWORKS } from "./lib/usdc.mjs";

const PRICE = 10_000n;
const CLIENTS = {
  "@x402/fetch (v2)": { script: "buy-fetch-v2.mjs", network: "eip155:84532" },
  "x402-fetch (v1)": { script: "buy-fetch-v1.mjs", network: "base-sepolia" },
  "x402 over httpx (v2)": { script: "buy_httpx_v2.py", network: "eip155:84532" },
};

const WITH_PERMIT2 = NETWORKS["radius-testnet"];

let world;
before(async () => (world = await World.open()));
after(() => world?.close());

for (const settler of ["remote", "local"]) {
  describe(`with a ${settler} facilitator`, () => {
    let gateway;
    before(async () => (gateway = await world.gateway(world[settler]())));
    after(() => gateway?.close());

    for (const [name, client] of Object.entries(CLIENTS)) {
      it(`${name} pays once and is served once`, async () => {
        const payer = world.newPayer();
        const earlier = await world.balances(payer);

        const bought = await runBuyer(client.script, { url: `${gateway.url}/v1/weather`, key: payer.key });

        assert.equal(bought.status, 200, `${JSON.stringify(bought)}\n${gateway.log}`);
        assert.deepEqual(bought.body, { city: "Oslo", celsius: 21 });
        assert.equal(bought.challenges, 1);
        await assertReceipt(bought.receipt, payer, client.network);
        const later = await world.balances(payer);
        assert.deepEqual(later, { paid: earlier.paid - PRICE, received: earlier.received + PRICE });
        await assertDelivery(payer);

        const again = await ask(`${gateway.url}/v1/weather`, bought.payment);
        assertSpent(again);
        await world.assertPaid(payer, [PRICE]);
        assert.equal((await world.deliveriesTo(payer)).length, 1, "a spent payment reached the backend");
        assertDiscreet(gateway.log, bought.payment);
      });
    }

    it("S2 sixteen copies of one payment at once buy one answer", async () => {
      const payer = world.newPayer();
      const url = `${gateway.url}/v1/weather`;
      const payment = await signPayment(url, payer);

      const answers = await Promise.all(Array.from({ length: 16 }, () => ask(url, payment)));

      const statuses = answers.map(({ status }) => status).sort();
      assert.deepEqual(statuses, [200, ...Array(15).fill(409)], gateway.log);
      await world.assertPaid(payer, [PRICE]);
      assert.equal((await world.deliveriesTo(payer)).length, 1);
    });
  });

  describe(`when the gateway dies while a ${settler} facilitator settles`, () => {
    const wires = {
      remote: () => stallingProxy(world.facilitator.url, settleCalls),
      local: () => stallingProxy(world.chain.rpc, broadcasts),
    };

    it("S21 the payment is settled once, never asked for again, and its answer is delivered", async () => {
      const payer = world.newPayer();
      const wire = await wires[settler]();
      const gateway = await world.gateway(world[settler](wire.url));
      try {
        const url = `${gateway.url}/v1/weather`;
        const payment = await signPayment(url, payer);
        const settled = wire.arm();
        const lost = ask(url, payment).catch((error) => error);
        const early = lost.then(({ status, message }) => assert.fail(`${status ?? message} before settlement\n${gateway.log}`));
        await Promise.race([settled, early]);
        await gateway.crash();
        assert((await lost) instanceof Error, "the client got an answer from a gateway that was still waiting");
        await world.assertPaid(payer, [PRICE]);

        wire.disarm();
        await gateway.start();
        const answer = await eventually("the paid answer", async () => {
          const answer = await ask(url, payment);
          assert([200, 409, 503].includes(answer.status), `${answer.status} after the money had moved\n${gateway.log}`);
          assert.equal(answer.headers.get("payment-required"), null, "invited to pay twice");
          return answer.status === 200 ? answer : undefined;
        });

        assert.deepEqual(answer.body, { city: "Oslo", celsius: 21 });
        assertSpent(await ask(url, payment));
        await world.assertPaid(payer, [PRICE]);
      } finally {
        await gateway.close();
        await wire.close();
      }
    });
  });
}

describe("from a contract wallet", () => {
  let factory;
  before(async () => (factory = await WalletFactory.deploy(world.chain.rpc)));

  // A stock facilitator is asked with our node beside it, and without: then its word is all there is.
  const ways = {
    "a remote facilitator and a node": () => [world.remote(), `${world.node}, wallets: accept`],
    "a remote facilitator alone": () => [world.remote(), "wallets: accept"],
    "a local facilitator": () => [world.local(), `${world.node}, wallets: accept`],
  };
  for (const [name, way] of Object.entries(ways)) {
    it(`@x402/fetch (v2) pays through ${name}`, async () => {
      const owner = world.newPayer();
      const wallet = await factory.walletOf(owner, PRICE);
      await factory.create(owner, wallet);
      const [facilitator, network] = way();
      const gateway = await world.gateway(facilitator, undefined, network);
      try {
        const options = { url: `${gateway.url}/v1/weather`, key: owner.key, wallet: wallet.address };
        const bought = await runBuyer("buy-smart-wallet-v2.mjs", options);
        assert.equal(bought.status, 200, `${JSON.stringify(bought)}\n${gateway.log}`);
        await assertReceipt(bought.receipt, wallet, "eip155:84532");
        await assertDelivery(wallet);
        assertSpent(await ask(options.url, bought.payment));
        await world.assertPaid(wallet, [PRICE]);
        assertDiscreet(gateway.log, bought.payment);
      } finally {
        await gateway.close();
      }
    });
  }

  it("S30 one that does not exist yet is created by its first payment, by a listed factory alone", async () => {
    const wallet = await factory.walletOf(world.newPayer(), PRICE);
    const accepting = (factories) => `${world.node}, wallets: accept, factories: [${factories}]`;
    const gateway = await world.gateway(world.local(), undefined, accepting(""));
    try {
      const options = { url: `${gateway.url}/v1/weather`, key: wallet.key, wallet: wallet.address };
      const buying = () =>
        runBuyer("buy-smart-wallet-v2.mjs", { ...options, factory: factory.address, creation: wallet.creation });
      assert.equal((await buying()).status, 402, gateway.log);
      assert.equal(await world.reader.getCode({ address: wallet.address }), undefined);

      gateway.edit("factories: []", `factories: ["${factory.address}"]`);
      await eventually("the factory to be allowed", async () => gateway.log.includes("reloaded") || undefined);
      const bought = await buying();

      assert.equal(bought.status, 200, `${JSON.stringify(bought)}\n${gateway.log}`);
      await assertReceipt(bought.receipt, wallet, "eip155:84532");
    } finally {
      await gateway.close();
    }
  });
});

describe("when a price changes", () => {
  it("S37 no request fails, new offers show it, and old offers are kept", async () => {
    const [early, late] = [world.newPayer(), world.newPayer()];
    const gateway = await world.gateway(world.remote());
    try {
      const url = `${gateway.url}/v1/weather`;
      const oldOffer = await signPayment(url, early);
      const load = startLoad([{ url, status: 402 }, { url: `${gateway.url}/v1/health`, status: 200 }], 200);
      await pause(500);

      gateway.edit("$0.01", "$0.02");
      await eventually("the new price", async () => (priceAsked(await ask(url)) === 2n * PRICE ? true : undefined));

      await pause(500);
      const { sent, failures } = await load.stop();
      assert.deepEqual(failures, [], `of ${sent} requests`);
      assert.equal((await ask(url, oldOffer)).status, 200, gateway.log);
      await world.assertPaid(early, [PRICE]);
      const bought = await runBuyer("buy-fetch-v2.mjs", { url, key: late.key });
      assert.equal(bought.status, 200, gateway.log);
      await world.assertPaid(late, [2n * PRICE]);
    } finally {
      await gateway.close();
    }
  });

  it("S64 a mistake in the file leaves the old prices standing", async () => {
    const gateway = await world.gateway(world.remote());
    try {
      gateway.edit("$0.01", "0.02");
      await eventually("the mistake in the log", async () => gateway.log.includes("TH1003") || undefined);
      assert.equal(priceAsked(await ask(`${gateway.url}/v1/weather`)), PRICE);
    } finally {
      await gateway.close();
    }
  });
});

describe("through Permit2, in a token that takes nothing else", () => {
  let radius;
  before(async () => (radius = await World.open(WITH_PERMIT2)));
  after(() => radius?.close());

  it("the stand-in for the proxy is what its source says, and has the interface that the SDK calls", () => {
    const { code, signatures } = compiledStandIn();
    assert.equal(code, standIn());
    for (const signature of sdkInterface()) assert(signatures.includes(signature), `${signature} is missing`);
  });

  for (const settler of ["remote", "local"]) {
    it(`@x402/fetch (v2) pays once and is served once with a ${settler} facilitator`, async () => {
      const gateway = await radius.gateway(radius[settler]());
      try {
        const payer = radius.newPayer();
        const url = `${gateway.url}/v1/weather`;
        const bought = await runBuyer("buy-fetch-v2.mjs", { url, key: payer.key });
        assert.equal(bought.status, 200, `${JSON.stringify(bought)}\n${gateway.log}`);
        assert.equal(bought.receipt.network, "eip155:72344");
        const [transfer] = await radius.assertPaid(payer, [PRICE]);
        assert.equal(transfer.transactionHash, bought.receipt.transaction);

        assertSpent(await ask(url, bought.payment));
        await radius.assertPaid(payer, [PRICE]);
        assert.equal((await radius.deliveriesTo(payer)).length, 1, "a spent payment reached the backend");
        assertDiscreet(gateway.log, bought.payment);
      } finally {
        await gateway.close();
      }
    });

    it(`whoever has not approved Permit2 hears 412 from a ${settler} facilitator`, async () => {
      const gateway = await radius.gateway(radius[settler]());
      try {
        const payer = UNAPPROVED;
        const bought = await runBuyer("buy-fetch-v2.mjs", { url: `${gateway.url}/v1/weather`, key: payer.key });
        assert.equal(bought.status, 412, `${JSON.stringify(bought)}\n${gateway.log}`);
        await radius.assertPaid(payer, []);
      } finally {
        await gateway.close();
      }
    });
  }
});

it("a gateway that is asked to stop ends well and at once", async () => {
  const gateway = await world.gateway(world.remote());
  try {
    assert.equal((await ask(`${gateway.url}/v1/health`)).status, 200);
    assert.equal(await gateway.stop(), 0, gateway.log);
  } finally {
    await gateway.close();
  }
});

/** The receipt names a transaction that holds exactly the transfer that was sold. */
async function assertReceipt(receipt, payer, network) {
  assert.equal(receipt?.success, true, JSON.stringify(receipt));
  assert.equal(receipt.network, network);
  assert.equal(receipt.payer.toLowerCase(), payer.address.toLowerCase());
  const [transfer] = await world.assertPaid(payer, [PRICE]);
  assert.equal(transfer.transactionHash, receipt.transaction);
}

/** One request reached the backend: it knows who paid, and has nothing a thief could use. */
async function assertDelivery(payer) {
  const deliveries = await world.deliveriesTo(payer);
  assert.equal(deliveries.length, 1);
  const [{ headers }] = deliveries;
  assert.match(headers["tollhouse-payment"], /^[0-9a-f]{64}$/);
  assert.equal(headers["tollhouse-network"], "eip155:84532");
  assert.equal(headers["tollhouse-amount"], String(PRICE));
  for (const name of ["payment-signature", "x-payment"]) assert.equal(headers[name], undefined, `${name} leaked`);
}

/** Refused for good: not served, and not invited to pay either. */
function assertSpent({ status, headers }) {
  assert.equal(status, 409);
  assert.equal(headers.get("payment-required"), null);
}

/** I8: what would let a reader of the log collect the answer is not in it. */
function assertDiscreet(log, payment) {
  const { payload } = JSON.parse(Buffer.from(payment.value, "base64").toString("utf8"));
  for (const secret of [payment.value, payload.signature]) assert(!log.includes(secret), "a payment is in the log");
}
