"""Buys with PyPI's x402 over httpx, x402 v2, all settings as they come.

    python buy_httpx_v2.py --url URL --key 0x… [--method POST --data '{}']

Prints one JSON line like the JavaScript buyers do: {status, body, receipt, challenges, payment}.
"""

import argparse
import asyncio
import base64
import json
import sys

import httpx
from eth_account import Account
from x402 import x402Client
from x402.http.clients.httpx import x402AsyncTransport
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import ExactEvmScheme

PAYMENT_FIELDS = ("payment-signature", "x-payment")
RECEIPT_FIELDS = ("payment-response", "x-payment-response")


class NotingTransport(httpx.AsyncHTTPTransport):
    """Carries requests and remembers the payment and the challenges it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.notes = {"challenges": 0, "payment": None}
        self.status = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for name in PAYMENT_FIELDS:
            if name in request.headers:
                self.notes["payment"] = {"name": name, "value": request.headers[name]}
        response = await super().handle_async_request(request)
        self.status = response.status_code
        if response.status_code == 402:
            self.notes["challenges"] += 1
        return response


def receipt(headers: httpx.Headers) -> dict | None:
    for name in RECEIPT_FIELDS:
        if name in headers:
            return json.loads(base64.b64decode(headers[name]))
    return None


def parsed(body: str):
    try:
        return json.loads(body)
    except ValueError:
        return body


async def buy(options: argparse.Namespace, transport: NotingTransport) -> dict:
    wallet = x402Client()
    wallet.register("eip155:*", ExactEvmScheme(signer=EthAccountSigner(Account.from_key(options.key))))
    headers = {} if options.data is None else {"content-type": "application/json"}
    async with httpx.AsyncClient(transport=x402AsyncTransport(wallet, transport), timeout=60) as client:
        response = await client.request(options.method, options.url, content=options.data, headers=headers)
        body = parsed(response.text)
    return {"status": response.status_code, "body": body, "receipt": receipt(response.headers)}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--method", default="GET")
    parser.add_argument("--data")
    transport = NotingTransport()
    try:
        line = asyncio.run(buy(parser.parse_args(), transport))
        failed = False
    except Exception as error:  # whatever goes wrong, the line is printed
        line = {"status": transport.status, "error": str(error) or type(error).__name__}
        failed = True
    print(json.dumps(line | transport.notes))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
