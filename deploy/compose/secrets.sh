#!/bin/sh
# Makes the passwords that docker-compose.yml hands to its containers, each a file; those that are there stay.
# Only you can look into the folder; the files in it are readable because containers run as other users.
set -eu
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
for name in fleet mosquitto_agent mosquitto_fleet influxdb_password influxdb_admin_token grafana_admin; do
    [ -s "$folder/$name" ] && continue
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$folder/$name"
    chmod 644 "$folder/$name"
    echo "made $folder/$name"
done
