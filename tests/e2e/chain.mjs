// A local chain that passes for Base Sepolia, with Circle's USDC at its real address and payers who hold some; or for
// another of lib/usdc.mjs, with Permit2 where payments go through it.
//   node chain.mjs [--network NAME]
// Prints {rpc, chainId, token, payers, facilitator, payee}; anvil ends with this program, however it ends.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { ACCOUNTS, facilitator, payee, payers } from "./lib/accounts.mjs";
import { announce, released } from "./lib/program.mjs";
import { deployPermit2 } from "./lib/permit2.mjs";
import { NETWORKS, deployToken } from "./lib/usdc.mjs";

const { values: options } = parseArgs({ options: { network: { type: "string", default: "base-sepolia" } } });
const network = NETWORKS[options.network];

const anvil = spawn(
  anvilBinary(),
  ["--port", "0", "--host", "127.0.0.1", "--chain-id", String(network.chain.id), "--accounts", String(ACCOUNTS)],
  { stdio: ["ignore", "pipe", "inherit"] },
);
process.on("exit", () => anvil.kill("SIGKILL"));
anvil.once("error", (error) => fail(`cannot start anvil: ${error.message}`));
anvil.once("exit", (code, signal) => fail(`anvil ended (${code ?? signal})`));

const rpc = await listening(anvil);
await deployToken(rpc, network);
if (network.permit2) await deployPermit2(rpc, network);
const open = ({ address, key }) => ({ address, key });
announce({
  rpc,
  chainId: network.chain.id,
  token: network.token,
  payers: payers.map(open),
  facilitator: open(facilitator),
  payee: payee.address,
});
await released();
process.exit(0);

/** The binary that npm brought for this platform, `ANVIL`, or whatever the path holds. */
function anvilBinary() {
  if (process.env.ANVIL) return process.env.ANVIL;
  try {
    return createRequire(import.meta.url).resolve("@foundry-rs/anvil-linux-amd64/bin/anvil");
  } catch {
    return "anvil";
  }
}

/** Reads the address from the line anvil prints; the pipe is drained from then on, so that anvil never blocks. */
function listening(child) {
  return new Promise((resolve) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const address = /^Listening on (\S+)$/.exec(line)?.[1];
      if (address) resolve(`http://${address}`);
    });
  });
}

function fail(why) {
  process.stderr.write(`${why}\n`);
  process.exit(1);
}
