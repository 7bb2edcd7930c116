#!/bin/sh
# Makes the test clients that are not Python's, in .venv/clients, where node or go are there; once for each version of them.
# What cannot be made is said in one line, and its tests are skipped.
set -eu
cd "$(dirname "$0")/.."
from=tests/system/clients into=.venv/clients

if command -v node >/dev/null && command -v npm >/dev/null && ! cmp -s $from/node/package-lock.json $into/node/made; then
    echo "headwater: installing npm's mqtt for the tests"
    mkdir -p $into/node
    cp $from/node/package.json $from/node/package-lock.json $into/node/
    if (cd $into/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null); then
        cp $from/node/package-lock.json $into/node/made
    else
        echo "headwater: npm's mqtt cannot be installed; its tests are skipped"
    fi
fi

if command -v go >/dev/null && ! cat $from/go/main.go $from/go/go.sum | cmp -s - $into/go/made; then
    echo "headwater: building Eclipse's Go clients for the tests"
    mkdir -p $into/go
    if (cd $from/go && GOTOOLCHAIN=local GOFLAGS=-mod=readonly go build -o ../../../../$into/go/client .); then
        cat $from/go/main.go $from/go/go.sum >$into/go/made
    else
        echo "headwater: the Go clients cannot be built; their tests are skipped"
    fi
fi
