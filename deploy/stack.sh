#!/bin/sh
# Installs what `make demo-stack` runs, where that is possible; else says in one line what to install.
set -eu
PATH="$PATH:/usr/sbin:/usr/local/sbin"

wanted=
for package in mosquitto:mosquitto java:default-jre-headless mvn:maven influxd:influxdb prometheus:prometheus \
    prometheus-alertmanager:prometheus-alertmanager; do
    command -v "${package%%:*}" >/dev/null || wanted="$wanted ${package#*:}"
done
[ -n "$wanted" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "headwater: installing$wanted for the demo"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 (a list of packages)
    if apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends $wanted >/dev/null; then
        exit 0
    fi
fi
echo "headwater: make demo-stack needs them: sudo apt-get install$wanted" >&2
exit 78
