#!/usr/bin/env bash
# Dependencies: what may be in the tree always, known vulnerabilities when their database can be fetched.
#   tests/setup/deny.sh PATH-TO-CARGO-DENY
set -euo pipefail
deny=$1

"$deny" --log-level error check --hide-inclusion-graph bans licenses sources

if GIT_TERMINAL_PROMPT=0 timeout 120 "$deny" --log-level off fetch db 2>/dev/null; then
    "$deny" check --disable-fetch advisories
else
    echo "advisories skipped: advisory database not reachable"
fi
