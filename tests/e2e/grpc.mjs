// The stock library of gRPC on both sides of the gateway, HTTP/2 on both sides of it, and real payments between them.
//   node --test grpc.mjs        TOLLHOUSE_BIN names the binary; target/debug/tollhouse without it
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { ask, connect, field, startService, status } from "./lib/grpc.mjs";
import { signOffer } from "./lib/payment.mjs";
import { eventually } from "./lib/process.mjs";
import { World } from "./lib/world.mjs";

const PRICE = 10_000n;
const OSLO = Buffer.from("Oslo");
const MIB = 1024 * 1024;
const ROUTES = {
  "POST /weather.Weather/Free": "{price: free, limits: {request_body: 64MiB}}",
  "POST /weather.Weather/FreeTalk": "{price: free, limits: {request_body: 64MiB}}",
  "POST /weather.Weather/{method}": "{price: $0.01, limits: {request_body: 64MiB}}",
};

let world, service, folder, certificate;
before(async () => {
  world = await World.open();
  service = await startService();
  folder = mkdtempSync(join(tmpdir(), "tollhouse-grpc-"));
  const made = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  const names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  const files = ["-keyout", join(folder, "key"), "-out", join(folder, "crt")];
  execFileSync("openssl", ["req", ...made, ...names, ...files], { stdio: "ignore" });
  certificate = readFileSync(join(folder, "crt"));
});
after(async () => {
  await world?.close();
  service?.close();
  if (folder) rmSync(folder, { recursive: true });
});

/** A gateway before the service, which speaks HTTP/2 and nothing else. */
function gateway(listener, routes = ROUTES) {
  const upstream = { targets: [`http://127.0.0.1:${service.port}`], http2: true };
  return world.gateway(world.local(), routes, undefined, { listener, upstream });
}

const doors = {
  "in plaintext": { listener: () => "h2c: true", trusted: () => undefined },
  "over TLS": {
    listener: () => `tls: {cert: {file: ${join(folder, "crt")}}, key: {file: ${join(folder, "key")}}}`,
    trusted: () => certificate,
  },
};

for (const [way, { listener, trusted }] of Object.entries(doors)) {
  describe(`calls ${way}`, () => {
    let gate, client, calls;
    before(async () => {
      gate = await gateway(listener());
      client = connect({ host: `localhost:${new URL(gate.url).port}`, certificate: trusted() });
    });
    after(async () => {
      client?.close();
      await gate?.close();
    });
    const since = (from) => service.calls.slice(from);

    /** What buys the next call, of whatever method. */
    async function payment(payer) {
      const refused = await ask(client, "now", [OSLO]);
      assert.equal(refused.code, status.FAILED_PRECONDITION, `${refused.code} ${refused.details}\n${gate.log}`);
      return signOffer((name) => field(refused.tail, name), undefined, payer);
    }

    it("a free call passes as it is, and its answer too", async () => {
      calls = service.calls.length;
      const fields = { "x-note": "hello", "x-bytes-bin": Buffer.from([0, 1, 254]) };
      const answered = await ask(client, "free", [OSLO], { fields });
      assertWhole(answered, [OSLO], gate);
      const [{ fields: seen }] = since(calls);
      assert.equal(field(seen, "x-note"), "hello");
      assert.deepEqual(field(seen, "x-bytes-bin"), Buffer.from([0, 1, 254]));
      assert.match(field(seen, "user-agent"), /^grpc-node-js/);
    });

    it("a price is heard as metadata, and paid as metadata", async () => {
      calls = service.calls.length;
      const payer = world.newPayer();
      const refused = await ask(client, "now", [OSLO]);
      assert.deepEqual([refused.code, refused.details], [status.FAILED_PRECONDITION, "Payment required"]);
      assert.equal(since(calls).length, 0, "an unpaid call reached the service");
      const { name, value } = await payment(payer);

      const answered = await ask(client, "now", [OSLO], { fields: { [name]: value } });

      assertWhole(answered, [OSLO], gate);
      const receipt = JSON.parse(Buffer.from(field(answered.head, "payment-response"), "base64").toString("utf8"));
      const [transfer] = await world.assertPaid(payer, [PRICE]);
      assert.deepEqual([receipt.success, receipt.transaction], [true, transfer.transactionHash]);
      const [{ fields: seen }] = since(calls);
      assert.equal(field(seen, "tollhouse-payer").toLowerCase(), payer.address.toLowerCase());
      assert.equal(field(seen, "payment-signature"), undefined, "the payment reached the service");
      const again = await ask(client, "now", [OSLO], { fields: { [name]: value } });
      assert.equal(again.code, status.FAILED_PRECONDITION, again.details);
      assert.equal(field(again.tail, "payment-required"), undefined, "invited to pay twice");
      assert.equal(since(calls).length, 1);
      await world.assertPaid(payer, [PRICE]);
    });

    const streams = {
      days: { sent: [OSLO], heard: Array(20).fill(OSLO) },
      sum: { sent: [OSLO, Buffer.alloc(100_000), OSLO], heard: [Buffer.from("100008")] },
      talk: { sent: [OSLO, Buffer.from("Bergen")], heard: [OSLO, Buffer.from("Bergen")] },
    };
    for (const [method, { sent, heard }] of Object.entries(streams)) {
      it(`a stream (${method}) costs what a call costs, and all of it comes`, async () => {
        const payer = world.newPayer();
        const { name, value } = await payment(payer);
        assertWhole(await ask(client, method, sent, { fields: { [name]: value } }), heard, gate);
        await world.assertPaid(payer, [PRICE]);
      });
    }

    it("messages larger than any window pass both ways", async () => {
      const large = Buffer.alloc(3 * MIB, "x");
      assertWhole(await ask(client, "free", [large]), [large], gate);
      const pieces = Array.from({ length: 64 }, (_, at) => Buffer.alloc(MIB / 4, String(at)));
      assertWhole(await ask(client, "freeTalk", pieces), pieces, gate);
    });

    it("a call that fails is not charged, says why, and its payment is as good as before", async () => {
      const payer = world.newPayer();
      const { name, value } = await payment(payer);
      const failed = await ask(client, "lost", [OSLO], { fields: { [name]: value } });
      assert.deepEqual([failed.code, failed.details], [status.NOT_FOUND, "no such city: Åsgard"], gate.log);
      assert.equal(field(failed.tail, "x-sum"), "21");
      await world.assertPaid(payer, []);
      assertWhole(await ask(client, "now", [OSLO], { fields: { [name]: value } }), [OSLO], gate);
      await world.assertPaid(payer, [PRICE]);
    });

    it("S73 a call that is given up at its deadline is called off at the service and not charged", async () => {
      calls = service.calls.length;
      const payer = world.newPayer();
      const { name, value } = await payment(payer);
      const given = await ask(client, "slow", [OSLO], { fields: { [name]: value }, deadline: Date.now() + 1500 });
      assert.equal(given.code, status.DEADLINE_EXCEEDED, `${given.details}\n${gate.log}`);
      await eventually("the service to hear of it", async () => since(calls)[0]?.cancelled || undefined);
      await world.assertPaid(payer, []);
      assertWhole(await ask(client, "now", [OSLO], { fields: { [name]: value } }), [OSLO], gate);
      await world.assertPaid(payer, [PRICE]);
    });

    it("S74 a stream that is called off after its first message has been paid for", async () => {
      calls = service.calls.length;
      const payer = world.newPayer();
      const { name, value } = await payment(payer);
      const step = (call, number) => number === 1 && call.cancel();
      const left = await ask(client, "days", [Buffer.from("for ever")], { fields: { [name]: value }, step });
      assert.equal(left.code, status.CANCELLED);
      await eventually("the service to hear of it", async () => since(calls)[0]?.cancelled || undefined);
      await world.assertPaid(payer, [PRICE]);
      const again = await ask(client, "days", [OSLO], { fields: { [name]: value } });
      assert.equal(again.code, status.FAILED_PRECONDITION, again.details);
    });
  });
}

it("fifty calls at once on one connection are answered each with its own", async () => {
  const gate = await gateway("h2c: true");
  const client = connect({ host: `localhost:${new URL(gate.url).port}` });
  try {
    const payers = Array.from({ length: 5 }, () => world.newPayer());
    const refused = await ask(client, "now", [OSLO]);
    const payments = await Promise.all(payers.map((payer) => signOffer((name) => field(refused.tail, name), undefined, payer)));
    const asking = Array.from({ length: 50 }, (_, at) => {
      const message = Buffer.alloc(20_000 + at, String(at));
      const paid = at % 10 === 0 ? payments[at / 10] : undefined;
      const fields = paid ? { [paid.name]: paid.value } : {};
      return ask(client, paid ? "now" : "free", [message], { fields }).then((told) => assertWhole(told, [message], gate));
    });
    await Promise.all(asking);
    for (const payer of payers) await world.assertPaid(payer, [PRICE]);
  } finally {
    client.close();
    await gate.close();
  }
});

it("what is paid for before it is forwarded is sold to callers of gRPC too", async () => {
  const routes = { "POST /weather.Weather/{method}": "{price: $0.01, settle: before_forward}" };
  const gate = await gateway("h2c: true", routes);
  const client = connect({ host: `localhost:${new URL(gate.url).port}` });
  try {
    const payer = world.newPayer();
    const refused = await ask(client, "sum", [OSLO]);
    const { name, value } = await signOffer((name) => field(refused.tail, name), undefined, payer);
    const answered = await ask(client, "sum", [OSLO, OSLO], { fields: { [name]: value } });
    assertWhole(answered, [Buffer.from("8")], gate);
    await world.assertPaid(payer, [PRICE]);
  } finally {
    client.close();
    await gate.close();
  }
});

/** A call that went well: its answers, what stood before them and what stood behind. */
function assertWhole({ code, details, head, tail, answers }, expected, gate) {
  assert.equal(code, status.OK, `${details}\n${gate.log}`);
  assert.equal(answers.length, expected.length);
  answers.forEach((answer, at) => assert(answer.equals(expected[at]), `answer ${at} is another one`));
  assert.equal(field(head, "x-station"), "oslo");
  assert.equal(field(tail, "x-sum"), "21");
  assert.deepEqual(field(tail, "x-seal-bin"), Buffer.from([0, 255, 10]));
}
