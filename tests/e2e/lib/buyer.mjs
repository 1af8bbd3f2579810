// What the buying programs share: their options, a fetch that takes notes, and the one line they print.
import { parseArgs } from "node:util";

const PAYMENT_FIELDS = ["payment-signature", "x-payment"];
const RECEIPT_FIELDS = ["payment-response", "x-payment-response"];

/**
 * Buys once with `wrap(fetch, key, options)` and prints `{status, body, receipt, challenges, payment}`: `challenges` counts the
 * 402s met on the way and `payment` is the header field that paid, for whoever wants to present it again. Whatever
 * goes wrong, the line has a `status`; it is `null` when there was no answer to take one from.
 */
export async function buy(wrap) {
  const notes = { challenges: 0, payment: null };
  try {
    const { values } = parseArgs({
      options: {
        url: { type: "string" },
        key: { type: "string" },
        method: { type: "string", default: "GET" },
        data: { type: "string" },
        wallet: { type: "string" },
        factory: { type: "string" },
        creation: { type: "string" },
      },
    });
    const pay = wrap(noting(notes), values.key, values);
    const headers = values.data === undefined ? {} : { "content-type": "application/json" };
    const response = await pay(values.url, { method: values.method, body: values.data, headers });
    const body = await response.text();
    report({ status: response.status, body: parsed(body), receipt: receipt(response.headers), ...notes });
  } catch (error) {
    report({ status: notes.status ?? null, error: String(error.message ?? error), ...notes });
    process.exitCode = 1;
  }
}

function noting(notes) {
  return async (input, init) => {
    const headers = new Request(input, init).headers;
    const name = PAYMENT_FIELDS.find((field) => headers.has(field));
    if (name) notes.payment = { name, value: headers.get(name) };
    const response = await fetch(input, init);
    notes.status = response.status;
    if (response.status === 402) notes.challenges += 1;
    return response;
  };
}

function receipt(headers) {
  const name = RECEIPT_FIELDS.find((field) => headers.has(field));
  return name ? JSON.parse(Buffer.from(headers.get(name), "base64").toString("utf8")) : null;
}

function parsed(body) {
  try {
    return JSON.parse(body);
  } catch {
    return body;
  }
}

function report(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
