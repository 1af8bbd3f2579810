// Who takes part. All keys come from the mnemonic that every Ethereum development tool publishes:
// they are worthless, and nobody has to wonder about a private key in the repository.
import { bytesToHex } from "viem";
import { mnemonicToAccount } from "viem/accounts";

const MNEMONIC = "test test test test test test test test test test test junk";
const FIRST_PAYER = 3;
export const PAYERS = 24;
export const ACCOUNTS = FIRST_PAYER + PAYERS;

const participant = (index) => {
  const account = mnemonicToAccount(MNEMONIC, { addressIndex: index });
  return { address: account.address, key: bytesToHex(account.getHdKey().privateKey), account };
};

/** Deploys the token, mints it and rules it. */
export const issuer = participant(0);
/** Pays gas for settlements and holds nothing else. */
export const facilitator = participant(1);
/** Receives the tolls; its key is used by nobody. */
export const payee = participant(2);
/** Hold USDC and no gas is ever taken from them. One per test, so that balances tell one story each. */
export const payers = Array.from({ length: PAYERS }, (_, index) => participant(FIRST_PAYER + index));
