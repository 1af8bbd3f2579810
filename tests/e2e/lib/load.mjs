// Traffic in the background that keeps count of what went wrong.
const MOST_IN_FLIGHT = 64;

/**
 * Sends `rate` requests a second, in turn to each of `targets` (`{url, status}`), until `stop()`, which waits for the
 * last answer and returns how many were sent and whatever was not answered as expected.
 */
export function startLoad(targets, rate) {
  const pending = new Set();
  const failures = [];
  let sent = 0;
  const timer = setInterval(() => {
    if (pending.size >= MOST_IN_FLIGHT) return;
    const target = targets[sent++ % targets.length];
    const request = expect(target, failures).finally(() => pending.delete(request));
    pending.add(request);
  }, 1000 / rate);
  return {
    async stop() {
      clearInterval(timer);
      await Promise.all(pending);
      return { sent, failures };
    },
  };
}

async function expect({ url, status }, failures) {
  try {
    const response = await fetch(url);
    await response.arrayBuffer();
    if (response.status !== status) failures.push(`${url}: ${response.status}`);
  } catch (error) {
    failures.push(`${url}: ${error.cause?.code ?? error.message}`);
  }
}
