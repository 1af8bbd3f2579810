// Uniswap's own Permit2, and a stand-in for x402's exact proxy, both where they stand on every chain.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { PERMIT2_ADDRESS, x402ExactPermit2ProxyABI, x402ExactPermit2ProxyAddress } from "@x402/evm";
import { concat, createTestClient, http, maxUint256, toFunctionSignature } from "viem";
import { issuer, payers } from "./accounts.mjs";
import { abi, connect } from "./usdc.mjs";

/** Makes contracts at addresses that depend on nothing but their code; every anvil has it. */
const MAKER = "0x4e59b44847b379578588920cA78FbF26c0B4956C";
/** What Uniswap salted Permit2's address with: standing there is the proof that the code is the real one. */
const SALT = "0x0000000000000000000000000000000000000000d3af2663da51c10215000000";
const FACTORY = "../node_modules/@uniswap/uniswapx-sdk/dist/cjs/src/contracts/factories/Permit2__factory.js";
const CONTRACT = "ExactPermit2Proxy";

const require = createRequire(import.meta.url);
const beside = (name) => readFileSync(new URL(`../contracts/${name}`, import.meta.url), "utf8");

/** Has tokens, and never lets Permit2 move any. */
export const UNAPPROVED = payers.at(-1);

/** The code that stands at the proxy's address. */
export const standIn = () => `0x${beside(`${CONTRACT}.hex`).trim()}`;

/** Puts both in place and has every payer but one approve Permit2. */
export async function deployPermit2(rpc, network) {
  const reader = connect(rpc, undefined, network);
  const mined = async (hash) => {
    const { status } = await reader.waitForTransactionReceipt({ hash });
    if (status !== "success") throw new Error(`transaction ${hash} reverted`);
  };
  const maker = connect(rpc, issuer.account, network);
  await mined(await maker.sendTransaction({ to: MAKER, data: concat([SALT, creationCode()]) }));
  if (!(await reader.getCode({ address: PERMIT2_ADDRESS }))) throw new Error("this is not the Permit2 of other chains");
  const anvil = createTestClient({ mode: "anvil", transport: http(rpc) });
  await anvil.setCode({ address: x402ExactPermit2ProxyAddress, bytecode: standIn() });
  for (const payer of payers.filter((payer) => payer !== UNAPPROVED)) {
    const wallet = connect(rpc, payer.account, network);
    const approval = { address: network.token, abi, functionName: "approve", args: [PERMIT2_ADDRESS, maxUint256] };
    await mined(await wallet.writeContract(approval));
  }
}

/** The stand-in, compiled from its source: its code, and the functions it has. */
export function compiledStandIn() {
  const solc = require("solc");
  const input = {
    language: "Solidity",
    sources: { [CONTRACT]: { content: beside(`${CONTRACT}.sol`) } },
    settings: {
      evmVersion: "cancun",
      optimizer: { enabled: true, runs: 200 },
      metadata: { appendCBOR: false, bytecodeHash: "none" },
      outputSelection: { "*": { "*": ["abi", "evm.deployedBytecode.object"] } },
    },
  };
  const { contracts, errors } = JSON.parse(solc.compile(JSON.stringify(input)));
  if (errors?.length) throw new Error(errors.map((error) => error.formattedMessage).join("\n"));
  const { abi, evm } = contracts[CONTRACT][CONTRACT];
  return { code: `0x${evm.deployedBytecode.object}`, signatures: functionsOf(abi) };
}

/** The functions of the proxy that the SDK calls. */
export const sdkInterface = () => functionsOf(x402ExactPermit2ProxyABI);

const functionsOf = (abi) => abi.filter(({ type }) => type === "function").map((item) => toFunctionSignature(item));

/** Read as text: the module around it wants ethers, and its package does not export it. */
function creationCode() {
  const found = /_bytecode = "(0x[0-9a-f]+)"/.exec(readFileSync(new URL(FACTORY, import.meta.url), "utf8"));
  if (!found) throw new Error(`${FACTORY} holds no creation code`);
  return found[1];
}
