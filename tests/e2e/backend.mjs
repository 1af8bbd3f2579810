// The API for sale. It has never heard of payments; a second port tells the tests what reached it.
//   node backend.mjs        prints {url, admin}; GET admin/hits lists the requests, POST admin/reset forgets them
import { announce, readBody, released, sendJson, serve } from "./lib/program.mjs";

const CHUNK = Buffer.alloc(64 * 1024, "x");
let hits = [];

const routes = {
  "GET /v1/weather": (_, response) => sendJson(response, 200, { city: "Oslo", celsius: 21 }),
  "GET /v1/health": (_, response) => sendJson(response, 200, { ok: true }),
  "GET /headers": (request, response) => sendJson(response, 200, request.headers),
  "POST /echo": async (request, response) => {
    const body = await readBody(request);
    const type = request.headers["content-type"] ?? "application/octet-stream";
    response.writeHead(200, { "content-type": type }).end(body);
  },
  "GET /slow": async (_, response, query) => {
    const ms = Number(query.get("ms") ?? 1000);
    await pause(ms);
    sendJson(response, 200, { waited: ms });
  },
  "GET /stream": async (_, response, query) => {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
    for (let event = 1; event <= Number(query.get("events") ?? 5); event++) {
      response.write(`id: ${event}\ndata: ${JSON.stringify({ event })}\n\n`);
      await pause(Number(query.get("ms") ?? 20));
    }
    response.end();
  },
  "GET /big": async (_, response, query) => {
    const chunks = (Number(query.get("mib") ?? 1) * 1024 * 1024) / CHUNK.length;
    response.writeHead(200, { "content-length": chunks * CHUNK.length });
    for (let sent = 0; sent < chunks && !response.destroyed; sent++) {
      if (!response.write(CHUNK)) await new Promise((resolve) => response.once("drain", resolve).once("close", resolve));
    }
    response.end();
  },
};

const api = await serve(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://backend");
  hits.push({
    method: request.method,
    path: request.url,
    payment: request.headers["tollhouse-payment"],
    headers: request.headers,
  });
  const status = /^\/status\/(\d{3})$/.exec(pathname)?.[1];
  if (status) return sendJson(response, Number(status), { status: Number(status) });
  const route = routes[`${request.method === "HEAD" ? "GET" : request.method} ${pathname}`];
  if (!route) return sendJson(response, 404, { error: "no such path" });
  await route(request, response, searchParams);
});

const admin = await serve(async (request, response) => {
  if (request.url === "/reset") hits = [];
  sendJson(response, 200, hits);
});

announce({ url: api.url, admin: admin.url });
await released();
process.exit(0);

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
