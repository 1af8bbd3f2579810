// The real binary with a configuration of its own, in a folder of its own.
import { closeSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { end, eventually, start } from "./process.mjs";

const BINARY = process.env.TOLLHOUSE_BIN ?? fileURLToPath(new URL("../../../target/debug/tollhouse", import.meta.url));

export class Gateway {
  #folder = mkdtempSync(join(tmpdir(), "tollhouse-e2e-"));
  #file = join(this.#folder, "gateway.yaml");
  #child;

  /** Starts a gateway on a configuration that `describe({port, status, folder})` writes, and waits until it is ready. */
  static async open(describe) {
    const gateway = new Gateway();
    const [port, status] = await Promise.all([freePort(), freePort()]);
    gateway.url = `http://127.0.0.1:${port}`;
    gateway.status = `http://127.0.0.1:${status}`;
    writeFileSync(gateway.#file, describe({ port, status, folder: gateway.#folder }));
    await gateway.start().catch(async (error) => {
      await gateway.close();
      throw error;
    });
    return gateway;
  }

  async start() {
    const log = openSync(this.#logFile, "a");
    const child = start(BINARY, ["run", "-c", this.#file], ["ignore", log, log]);
    closeSync(log);
    let failure;
    child.once("error", (error) => (failure = error.message));
    child.once("exit", (code, signal) => (failure = `it ended (${code ?? signal})`));
    this.#child = child;
    await eventually("the gateway to be ready", async () => {
      if (failure) throw new Error(`the gateway does not start: ${failure}\n${this.log}`);
      return (await fetch(`${this.status}/readyz`).catch(() => undefined))?.ok || undefined;
    });
  }

  /** Replaces text in the configuration the way `sed -i` and editors do: a new file takes the old one's place. */
  edit(from, to) {
    const before = readFileSync(this.#file, "utf8");
    const after = before.replaceAll(from, to);
    if (after === before) throw new Error(`${from} does not stand in the configuration`);
    writeFileSync(`${this.#file}.new`, after);
    renameSync(`${this.#file}.new`, this.#file);
  }

  /** What a power cut does. */
  async crash() {
    await end(this.#child, "SIGKILL");
  }

  /** Ends the gateway as an orchestrator would and returns its exit code; `null` when it had to be killed. */
  async stop() {
    return (await end(this.#child, "SIGTERM")).code;
  }

  /** Stops the gateway, if it still runs, and removes its folder. */
  async close() {
    await end(this.#child);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Everything it said so far, on both streams. */
  get log() {
    return readFileSync(this.#logFile, "utf8");
  }

  get #logFile() {
    return join(this.#folder, "log");
  }
}

/** A port that was free a moment ago. */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject).listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
