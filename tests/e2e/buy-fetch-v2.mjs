// Buys with @x402/fetch, x402 v2, all settings as they come.
//   node buy-fetch-v2.mjs --url URL --key 0x… [--method POST --data '{}']
import { wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { privateKeyToAccount } from "viem/accounts";
import { buy } from "./lib/buyer.mjs";

await buy((fetch, key) =>
  wrapFetchWithPaymentFromConfig(fetch, {
    schemes: [{ network: "eip155:*", client: new ExactEvmScheme(privateKeyToAccount(key)) }],
  }),
);
