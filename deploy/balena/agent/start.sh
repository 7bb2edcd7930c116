#!/bin/sh
# Starts the agent. Every agent needs a name of its own: without HEADWATER_EDGE__NAME it is called as the device's UUID begins.
set -eu
if [ -z "${HEADWATER_EDGE__NAME:-}" ]; then
    [ -n "${BALENA_DEVICE_UUID:-}" ] || { echo "headwater: set HEADWATER_EDGE__NAME: this is no balena device" >&2; exit 78; }
    HEADWATER_EDGE__NAME=$(printf %.12s "$BALENA_DEVICE_UUID")
    export HEADWATER_EDGE__NAME
fi
# Settings that the environment cannot say well (rules, many tables) may lie in the volume.
if [ -f /data/headwater.toml ]; then
    exec headwater-edge run --settings /data/headwater.toml
fi
exec headwater-edge run
