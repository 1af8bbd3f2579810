// A wire that breaks at the worst moment: it carries everything, and on request swallows the answer to a call that
// has already had its effect.
import { readBody, serve } from "./program.mjs";

/**
 * Stands in front of the server at `target`. After `arm()`, the answers to calls that `matters(request, body)` are
 * held back for good; the promise `arm()` returned resolves when the first such call has had its effect behind us.
 */
export async function stallingProxy(target, matters) {
  let onEffect = null;
  const server = await serve(async (request, response) => {
    const body = await readBody(request);
    const headers = { "content-type": request.headers["content-type"] ?? "application/json" };
    const answer = await fetch(target + (request.url === "/" ? "" : request.url), {
      method: request.method,
      headers,
      body: body.length > 0 ? body : undefined,
    });
    const text = await answer.text();
    if (onEffect && matters(request, body.toString("utf8"))) return onEffect();
    response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "" }).end(text);
  });
  return {
    url: server.url,
    arm: () => new Promise((resolve) => (onEffect = resolve)),
    disarm: () => (onEffect = null),
    close: server.close,
  };
}

export const settleCalls = (request) => request.url === "/settle";
export const broadcasts = (_, body) => body.includes('"eth_sendRawTransaction"');
