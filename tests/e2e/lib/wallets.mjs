// Contract wallets on the chain: the ones of tests/fixtures/wallets, and Multicall3 where every other chain has it.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { createTestClient, encodeFunctionData, http, parseAbi } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { issuer } from "./accounts.mjs";
import { USDC, connect } from "./usdc.mjs";

const MULTICALL = "0xcA11bde05977b3631167028862bE2a173976CA11";
const { Factory } = JSON.parse(readFileSync(new URL("../../fixtures/wallets/wallets.json", import.meta.url), "utf8"));
const abi = parseAbi([
  "function createWallet(address[] owners, uint256 salt) returns (address)",
  "function addressOf(address[] owners, uint256 salt) view returns (address)",
]);
const token = parseAbi(["function transfer(address to, uint256 value) returns (bool)"]);

/** Creates wallets. */
export class WalletFactory {
  #rpc;
  #reader;

  static async deploy(rpc) {
    const factory = new WalletFactory();
    factory.#rpc = rpc;
    factory.#reader = connect(rpc);
    const created = async (bytecode) => {
      const hash = await connect(rpc, issuer.account).deployContract({ abi: [], bytecode });
      return (await factory.#reader.waitForTransactionReceipt({ hash })).contractAddress;
    };
    const bytecode = await factory.#reader.getCode({ address: await created(multicall()) });
    await createTestClient({ mode: "anvil", transport: http(rpc) }).setCode({ address: MULTICALL, bytecode });
    factory.address = await created(Factory);
    return factory;
  }

  /** The wallet that the owner will have, with `units` of USDC from the owner. It does not exist yet. */
  async walletOf(owner, units) {
    const args = [[owner.address], 0n];
    const address = await this.#reader.readContract({ address: this.address, abi, functionName: "addressOf", args });
    await this.#mined(owner, { address: USDC, abi: token, functionName: "transfer", args: [address, units] });
    return { address, key: owner.key, creation: encodeFunctionData({ abi, functionName: "createWallet", args }), args };
  }

  /** Creates it. */
  async create(owner, { args }) {
    await this.#mined(owner, { address: this.address, abi, functionName: "createWallet", args });
  }

  async #mined(owner, call) {
    const hash = await connect(this.#rpc, privateKeyToAccount(owner.key)).writeContract(call);
    const { status } = await this.#reader.waitForTransactionReceipt({ hash });
    if (status !== "success") throw new Error(`transaction ${hash} reverted`);
  }
}

/** The code that creates Multicall3, which viem has and does not export. */
function multicall() {
  const viem = dirname(createRequire(import.meta.url).resolve("viem/package.json"));
  const text = readFileSync(join(viem, "_esm/constants/contracts.js"), "utf8");
  return /multicall3Bytecode = '(0x[0-9a-f]+)'/.exec(text)[1];
}
