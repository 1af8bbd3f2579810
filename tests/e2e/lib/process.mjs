// Starting programs and being sure that they end.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { createInterface } from "node:readline";

const HERE = fileURLToPath(new URL("..", import.meta.url));
const PYTHON = `${HERE}.venv/bin/python`;

const children = new Set();
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));

/** Starts a program that does not outlive this one. */
export function start(command, args, stdio) {
  const child = spawn(command, args, { stdio });
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

/** Starts one of the small servers here and waits for the line that says where it is. */
export async function startServer(script, ...args) {
  const child = start(process.execPath, [`${HERE}${script}`, ...args], ["pipe", "pipe", "inherit"]);
  const [line] = await Promise.race([once(createInterface({ input: child.stdout }), "line"), died(child, script)]);
  return { ...JSON.parse(line), stop: () => end(child) };
}

/** Runs a buying program, `.mjs` or `.py`, and reads the line it prints, whether it bought or not. */
export async function runBuyer(script, options) {
  const command = script.endsWith(".py") ? PYTHON : process.execPath;
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  const { stdout, stderr } = await new Promise((resolve) => {
    const limits = { timeout: 60_000, killSignal: "SIGKILL" };
    execFile(command, [`${HERE}${script}`, ...args], limits, (_, stdout, stderr) => resolve({ stdout, stderr }));
  });
  if (!stdout) throw new Error(`${script} said nothing: ${stderr}`);
  return JSON.parse(stdout);
}

/** Asks a child to end, insists after a while, and says how it ended. */
export async function end(child, signal = "SIGTERM", patience = 45_000) {
  if (child.exitCode !== null || child.signalCode !== null) return { code: child.exitCode, signal: child.signalCode };
  const ended = once(child, "exit");
  child.kill(signal);
  const insist = setTimeout(() => child.kill("SIGKILL"), patience);
  const [code, by] = await ended;
  clearTimeout(insist);
  return { code, signal: by };
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks again and again until `attempt` returns something, or throws when the time is up. */
export async function eventually(what, attempt, patience = 30_000) {
  const deadline = Date.now() + patience;
  for (;;) {
    const result = await attempt();
    if (result !== undefined) return result;
    if (Date.now() > deadline) throw new Error(`waited ${patience} ms for ${what}`);
    await pause(100);
  }
}

async function died(child, name) {
  const [code, signal] = await once(child, "exit");
  throw new Error(`${name} ended (${code ?? signal}) before it was ready`);
}
