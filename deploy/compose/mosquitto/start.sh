#!/bin/sh
# Starts Mosquitto with the users whose passwords lie in /run/secrets; it knows them hashed, in memory only.
set -eu
umask 077
passwords=/tmp/passwords
rm -f "$passwords"
{
    echo "agent:$(cat /run/secrets/mosquitto_agent)"
    echo "fleet:$(cat /run/secrets/mosquitto_fleet)"
} >"$passwords"
mosquitto_passwd -U "$passwords" # hashes what stands in the file
exec mosquitto -c /mosquitto/config/mosquitto.conf
