#!/usr/bin/env bash
# Checks deploy/ as far as that goes without a cluster: manifests against the API's schema, as they stand and with
# their `#live` lines turned on; the gateway.yaml inside them with the binary itself; the Dockerfile.
#   tests/setup/deploy-check.sh PATH-TO-TOLLHOUSE MANIFEST…
set -euo pipefail
cd "$(dirname "$0")/../.."
tollhouse=$1
shift

KUBERNETES=1.35
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT

# Prints the gateway.yaml of every ConfigMap in a manifest into a folder, one file each.
extract='
import pathlib, sys, yaml
manifest, folder = sys.argv[1], pathlib.Path(sys.argv[2])
for document in yaml.safe_load_all(open(manifest)):
    if document["kind"] == "ConfigMap" and "gateway.yaml" in document["data"]:
        (folder / (document["metadata"]["name"] + ".yaml")).write_text(document["data"]["gateway.yaml"])
'

check() {
    local name=$1 manifest=$2 folder=$here/$1
    kubernetes-validate --strict -k "$KUBERNETES" "$manifest" >/dev/null
    mkdir -p "$folder"
    python -c "$extract" "$manifest" "$folder"
    # Secrets are mounted in the pod; here a stand-in takes their place.
    printf stand-in >"$folder/secret"
    chmod 0600 "$folder/secret"
    sed -i "s|/run/secrets/tollhouse/[a-z-]*|$folder/secret|" "$folder"/*.yaml
    for config in "$folder"/*.yaml; do
        # As in the pod: there, a live network and a ledger of its own need the operator's word (S5).
        KUBERNETES_SERVICE_HOST=10.96.0.1 "$tollhouse" check "$config"
    done
    echo "ok: $name"
}

for manifest in "$@"; do
    name=$(basename "$manifest" .yaml)
    check "$name" "$manifest"
    if grep -q '#live ' "$manifest"; then
        sed -e '/# sandbox$/d' -e 's/#live //' "$manifest" >"$here/$name-live.yaml"
        check "$name-live" "$here/$name-live.yaml"
    fi
done

hadolint deploy/Dockerfile
echo "ok: Dockerfile"
