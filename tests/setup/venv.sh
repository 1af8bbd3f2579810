#!/usr/bin/env bash
# Makes a Python environment with what a requirements file pins.
#   tests/setup/venv.sh FOLDER REQUIREMENTS
set -euo pipefail
folder=$1 requirements=$2

python3 -m venv --clear "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
