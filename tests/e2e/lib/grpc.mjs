// A service of gRPC and its callers, both on the stock library. Messages are bytes as they are, so nothing is compiled.
import * as grpc from "@grpc/grpc-js";

const same = (bytes) => bytes;
const method = (name, requestStream, responseStream) => ({
  path: `/weather.Weather/${name}`,
  requestStream,
  responseStream,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});

/** What the service can be asked, one method for each kind of call, and some that end otherwise. */
export const Weather = {
  now: method("Now", false, false),
  days: method("Days", false, true),
  sum: method("Sum", true, false),
  talk: method("Talk", true, true),
  lost: method("Lost", false, false),
  slow: method("Slow", false, false),
  free: method("Free", false, false),
  freeTalk: method("FreeTalk", true, true),
};

const DAYS = 20;
/** Larger than any window of HTTP/2 that nobody has enlarged. */
const MOST = 8 * 1024 * 1024;

/** Starts the service. `calls` are those that reached it: `{method, fields, cancelled}`. */
export async function startService() {
  const calls = [];
  const noted = (name, handle) => (call, answer) => {
    const note = { method: name, fields: call.metadata, cancelled: false };
    call.on("cancelled", () => (note.cancelled = true));
    calls.push(note);
    // An answer begins with its initial metadata, and is paid for from there on.
    if (name !== "slow") call.sendMetadata(metadata({ "x-station": "oslo" }));
    handle(call, answer);
  };
  const echo = (call) => {
    call.on("data", (message) => call.write(message));
    call.on("end", () => call.end(trailers()));
    call.on("error", () => {});
  };
  const server = new grpc.Server({ "grpc.max_receive_message_length": MOST });
  server.addService(Weather, {
    now: noted("now", (call, answer) => answer(null, call.request, trailers())),
    free: noted("free", (call, answer) => answer(null, call.request, trailers())),
    days: noted("days", (call) => {
      for (let day = 0; day < DAYS; day++) call.write(call.request);
      if (call.request.toString() !== "for ever") call.end(trailers());
    }),
    sum: noted("sum", (call, answer) => {
      let bytes = 0;
      call.on("data", (message) => (bytes += message.length));
      call.on("end", () => answer(null, Buffer.from(String(bytes)), trailers()));
      call.on("error", () => {});
    }),
    talk: noted("talk", echo),
    freeTalk: noted("freeTalk", echo),
    slow: noted("slow", () => {}),
    // Without initial metadata, so that the error is all there is: a Trailers-Only answer.
    lost: (call, answer) => {
      calls.push({ method: "lost", fields: call.metadata });
      answer({ code: grpc.status.NOT_FOUND, details: "no such city: Åsgard", metadata: trailers() });
    },
  });
  const port = await new Promise((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    ),
  );
  return { port, calls, close: () => server.forceShutdown() };
}

/** A channel to the gateway: one connection, in plaintext or, with the certificate it must show, over TLS. */
export function connect({ host, certificate }) {
  const credentials = certificate
    ? grpc.credentials.createSsl(certificate)
    : grpc.credentials.createInsecure();
  return new grpc.Client(host, credentials, { "grpc.max_receive_message_length": MOST });
}

/**
 * Makes a call and waits for its end: `{code, details, head, tail, answers}`. `step(call, number)` is called when an
 * answer has come.
 */
export function ask(client, name, messages, { fields = {}, deadline, step } = {}) {
  const { path, requestStream, responseStream } = Weather[name];
  const told = { answers: [], head: undefined };
  return new Promise((resolve) => {
    const heard = (message) => {
      told.answers.push(message);
      step?.(call, told.answers.length);
    };
    const single = responseStream ? [] : [(_, message) => message !== undefined && told.answers.push(message)];
    const start = `make${requestStream ? (responseStream ? "Bidi" : "Client") : responseStream ? "Server" : "Unary"}`;
    const kind = `${start}${requestStream || responseStream ? "Stream" : ""}Request`;
    const only = requestStream ? [] : [messages[0]];
    const call = client[kind](path, same, same, ...only, metadata(fields), { deadline }, ...single);
    if (responseStream) call.on("data", heard).on("error", () => {});
    call.on("metadata", (head) => (told.head = head));
    call.on("status", ({ code, details, metadata: tail }) => resolve({ ...told, code, details, tail }));
    if (requestStream) send(call, messages);
  });
}

/** Writes no faster than it is taken, and then says that this was all. */
async function send(call, messages) {
  for (const message of messages) {
    if (!call.write(message)) await new Promise((resolve) => call.once("drain", resolve).once("status", resolve));
  }
  call.end();
}

function metadata(fields) {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(fields)) metadata.add(name, value);
  return metadata;
}

/** What stands behind the last message. Binary fields travel in base64. */
const trailers = () => metadata({ "x-sum": "21", "x-seal-bin": Buffer.from([0, 255, 10]) });

/** The first value of a field. */
export const field = (metadata, name) => metadata?.get(name)[0];
export const { status } = grpc;
