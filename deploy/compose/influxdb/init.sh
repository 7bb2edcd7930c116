#!/bin/sh
# Gives InfluxDB 2 what Headwater and Grafana need, and ends: a bucket for each level of windows and one for what is found, a mapping
# that lets InfluxQL name each as a database, and two tokens, one that writes and one that only reads. What is there stays as it is.
#
#   INFLUX_URL, INFLUX_ORG   where, and whose
#   BUCKETS                  NAME=SECONDS ...: how long each keeps; 0: for ever
#   ADMIN_TOKEN              file with the token of the set-up
#   TOKENS                   folder that the tokens `sink` and `grafana` are put into
set -eu
umask 022
admin=$(cat "$ADMIN_TOKEN")

ask() { # METHOD PATH [BODY]: prints the answer; an answer that is no success is told, and ends the job
    method=$1 path=$2
    shift 2
    # The token is in no argument: curl reads it from its standard input.
    answer=$(printf 'header = "Authorization: Token %s"\n' "$admin" |
        curl --config - --silent --show-error --max-time 20 --write-out '\n%{http_code}' --request "$method" \
            --header 'Content-Type: application/json' ${1:+--data "$1"} "$INFLUX_URL$path") || {
        echo "headwater: $INFLUX_URL does not answer" >&2
        exit 75
    }
    status=$(printf '%s' "$answer" | tail -n 1)
    body=$(printf '%s' "$answer" | sed '$d')
    case $status in
    2??) printf '%s' "$body" ;;
    *)
        echo "headwater: $method $path: $status $body" >&2
        exit 1
        ;;
    esac
}

id_of() { # the `id` of the first entry of a list: the only one that is asked for
    printf '%s' "$1" | tr -d '\n\t ' | sed -n "s/.*\"$2\":\[{\([^[]*\).*/\1/p" | tr ',{' '\n\n' | sed -n 's/^"id":"\([0-9a-f]*\)".*/\1/p' | head -n 1
}

org=$(id_of "$(ask GET "/api/v2/orgs?org=$INFLUX_ORG")" orgs)
reads= writes= made=
for one in $BUCKETS; do
    name=${one%=*} seconds=${one#*=}
    found=$(id_of "$(ask GET "/api/v2/buckets?orgID=$org&name=$name")" buckets)
    if [ -z "$found" ]; then
        rules=
        [ "$seconds" = 0 ] || rules="{\"type\":\"expire\",\"everySeconds\":$seconds}"
        ask POST /api/v2/buckets "{\"orgID\":\"$org\",\"name\":\"$name\",\"retentionRules\":[$rules]}" >/dev/null
        found=$(id_of "$(ask GET "/api/v2/buckets?orgID=$org&name=$name")" buckets)
        made=yes
        echo "made the bucket $name"
    fi
    mapped=$(id_of "$(ask GET "/api/v2/dbrps?orgID=$org&bucketID=$found&db=$name")" content)
    if [ -z "$mapped" ]; then
        ask POST /api/v2/dbrps \
            "{\"orgID\":\"$org\",\"bucketID\":\"$found\",\"database\":\"$name\",\"retention_policy\":\"autogen\",\"default\":true}" >/dev/null
        echo "InfluxQL knows it as the database $name"
    fi
    of="\"resource\":{\"type\":\"buckets\",\"id\":\"$found\",\"orgID\":\"$org\"}"
    reads="$reads,{\"action\":\"read\",$of}"
    writes="$writes,{\"action\":\"write\",$of}"
done

token() { # NAME PERMISSIONS: makes one, unless its file is there and knows all buckets
    [ -z "$made" ] && [ -s "$TOKENS/$1" ] && return
    said=$(ask POST /api/v2/authorizations "{\"orgID\":\"$org\",\"description\":\"headwater $1\",\"permissions\":[${2#,}]}")
    printf '%s' "$said" | tr -d '\n' | sed -n 's/.*"token" *: *"\([^"]*\)".*/\1/p' | tr -d '\n' >"$TOKENS/$1.new"
    [ -s "$TOKENS/$1.new" ] || {
        echo "headwater: no token in the answer of $INFLUX_URL" >&2
        exit 1
    }
    mv "$TOKENS/$1.new" "$TOKENS/$1"
    echo "made the token of $1"
}

# Who mounts the folder may read them: the sink's process and Grafana are other users than this one.
token sink "$reads$writes"
token grafana "$reads"
