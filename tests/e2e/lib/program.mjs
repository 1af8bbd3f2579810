// How each small server here behaves: one JSON line on stdout when it is ready, then it stays until its parent
// closes stdin (which the system does too when the parent dies) or asks it to stop.
import { createServer } from "node:http";

/** Says on stdout what was started and where. */
export function announce(facts) {
  process.stdout.write(`${JSON.stringify(facts)}\n`);
}

/** Resolves when the parent lets go. */
export function released() {
  return new Promise((resolve) => {
    process.stdin.on("end", resolve).on("error", resolve).resume();
    process.once("SIGTERM", resolve);
    process.once("SIGINT", resolve);
  });
}

/** Serves `handle` on a loopback port and answers 500 for what it throws. Port 0 lets the system choose. */
export async function serve(handle, port = 0) {
  const server = createServer((request, response) => {
    handle(request, response).catch((error) => {
      process.stderr.write(`${request.method} ${request.url}: ${error.stack ?? error}\n`);
      if (response.headersSent) response.destroy();
      else sendJson(response, 500, { error: String(error.message ?? error) });
    });
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => close(server) };
}

export function sendJson(response, status, body) {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

export async function readBody(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function close(server) {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(resolve));
}
