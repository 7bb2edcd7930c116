#!/bin/sh
# The broker is well if it takes a message of the agent's user and gives it back. The password is in no argument: the client
# reads its options from a file that is called as it is.
set -eu
umask 077
options=/tmp/mosquitto_rr
printf -- '-h 127.0.0.1\n-u agent\n-P %s\n' "$(cat /run/secrets/mosquitto_agent)" >"$options"
XDG_CONFIG_HOME=$(dirname "$options") exec mosquitto_rr -t hw-health -e hw-health -m well -q 1 -W 3
