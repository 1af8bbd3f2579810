#!/usr/bin/env bash
# Installs the Debian packages that are missing, and only those.
#   tests/setup/debian.sh COMMAND:PACKAGE…
# A COMMAND that can be found needs nothing. `python-venv` stands for Python's venv module, which Debian packages
# apart from Python itself; `postgresql` stands for the server's programs, which Debian keeps out of the path.
set -euo pipefail

present() {
    case $1 in
        python-venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
        postgresql) compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ;;
        nginx) [ -x /usr/sbin/nginx ] || command -v nginx >/dev/null ;; # sbin is not in everybody's path
        *) command -v "$1" >/dev/null ;;
    esac
}

missing=()
for need in "$@"; do
    present "${need%%:*}" || missing+=("${need##*:}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

ask_for_help() {
    echo "missing: ${missing[*]}. $1: install them (Debian: apt-get install ${missing[*]}) and run make again." >&2
    exit 1
}
command -v apt-get >/dev/null || ask_for_help "This is not Debian"
if [ "$(id -u)" -eq 0 ]; then
    root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    root=(sudo -n)
else
    ask_for_help "This user may not install packages"
fi

echo "installing ${missing[*]}"
"${root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
