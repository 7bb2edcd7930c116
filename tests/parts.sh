#!/bin/sh
# Installs the parts of the system that tests use, where that is possible; else says in one line what to install.
set -eu
PATH="$PATH:/usr/sbin:/usr/local/sbin"
clients=${0%/*}/clients.sh
[ ! -x "$clients" ] || "$clients"

wanted=
command -v mosquitto >/dev/null || wanted="$wanted mosquitto"
command -v mosquitto_pub >/dev/null && command -v mosquitto_sub >/dev/null || wanted="$wanted mosquitto-clients"
# Power cuts (tests/fault/disks.py) are made by reflinks of XFS.
command -v mkfs.xfs >/dev/null || wanted="$wanted xfsprogs"
# Kafka (deploy/kafka/jars.sh) needs a JVM, and Maven to fetch it.
command -v java >/dev/null || wanted="$wanted default-jre-headless"
command -v mvn >/dev/null || wanted="$wanted maven"
# What stands behind Headwater: a store, Prometheus (with promtool) and Alertmanager (with amtool).
for package in influxd:influxdb victoria-metrics:victoria-metrics prometheus:prometheus amtool:prometheus-alertmanager; do
    command -v "${package%%:*}" >/dev/null || wanted="$wanted ${package#*:}"
done
kafka() {
    jars=${0%/*}/../deploy/kafka/jars.sh
    [ ! -x "$jars" ] || "$jars" >/dev/null || echo "headwater: Kafka's jars cannot be had; its tests are skipped"
    exit 0
}
[ -n "$wanted" ] || kafka

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "headwater: installing$wanted for the tests"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 (a list of packages)
    if apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends $wanted >/dev/null; then
        kafka
    fi
fi
echo "headwater: tests that need them are skipped; to run them: sudo apt-get install$wanted"
