// Buys with @x402/fetch from a contract wallet, whose first owner has the key. With a factory and its calldata the
// signature says how the wallet comes to be (ERC-6492), as wallets do that do not exist yet.
//   node buy-smart-wallet-v2.mjs --url URL --key 0x… --wallet 0x… [--factory 0x… --creation 0x…]
import { wrapFetchWithPaymentFromConfig } from "@x402/fetch";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { encodeAbiParameters, parseAbiParameters } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { serializeErc6492Signature } from "viem/utils";
import { buy } from "./lib/buyer.mjs";

await buy((fetch, key, { wallet, factory, creation }) => {
  const owner = privateKeyToAccount(key);
  const signer = {
    address: wallet,
    async signTypedData(message) {
      const own = await owner.signTypedData(message);
      const signature = encodeAbiParameters(parseAbiParameters("uint256 owner, bytes signature"), [0n, own]);
      return factory ? serializeErc6492Signature({ address: factory, data: creation, signature }) : signature;
    },
  };
  return wrapFetchWithPaymentFromConfig(fetch, {
    schemes: [{ network: "eip155:*", client: new ExactEvmScheme(signer) }],
  });
});
