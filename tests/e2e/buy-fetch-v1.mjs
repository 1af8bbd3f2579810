// Buys with x402-fetch, x402 v1, all settings as they come. Deprecated, and still the most installed client.
//   node buy-fetch-v1.mjs --url URL --key 0x… [--method POST --data '{}']
import { createWalletClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { baseSepolia } from "viem/chains";
import { wrapFetchWithPayment } from "x402-fetch";
import { buy } from "./lib/buyer.mjs";

await buy((fetch, key) => {
  // It only signs: the transport is never used.
  const wallet = createWalletClient({ account: privateKeyToAccount(key), chain: baseSepolia, transport: http() });
  return wrapFetchWithPayment(fetch, wallet);
});
