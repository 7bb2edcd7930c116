#!/bin/sh
# Makes .venv with uv in it, or says in one line what to install first. `make` calls it; it is quick when all is there.
set -eu
cd "$(dirname "$0")/.."
uv_version=0.13.9 # the one that wrote uv.lock

say() {
    echo "headwater: $*" >&2
    exit 1
}

runs() {
    "$1" -c "$2" >/dev/null 2>&1
}

find_python() {
    for name in ${PYTHON:-} python3.11 python3 python3.12 python3.13 python3.14; do
        if runs "$name" 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            command -v "$name"
            return
        fi
    done
}

if ! runs .venv/bin/python 'import pip'; then
    python=$(find_python)
    [ -n "$python" ] || say "Python 3.11 or newer is missing; on Debian 12, Ubuntu 24.04 or Raspberry Pi OS: sudo apt-get install python3 python3-venv"
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    runs "$python" 'import ensurepip, venv' || say "$python cannot make virtual environments; install that part: sudo apt-get install python$version-venv"
    runs "$python" 'import sqlite3, ssl, zlib' || say "$python was built without sqlite3, ssl or zlib; use your system's: sudo apt-get install python3 python3-venv"
    echo "headwater: making .venv with $python ($version)"
    "$python" -m venv --clear .venv || say "$python -m venv failed; on Debian and Ubuntu: sudo apt-get install python$version-venv"
fi

if ! [ -x .venv/bin/uv ]; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version" ||
        say "uv could not be installed from PyPI (see above); is the network there?"
fi
