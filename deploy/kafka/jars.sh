#!/bin/sh
# Prints the folder that holds Kafka's jars; fetches them from Maven Central first, once for each version of pom.xml.
# They stay outside the tree, in HEADWATER_CACHE or ~/.cache/headwater. Needs java (17 or newer) and mvn.
set -eu
pom=$(cd "$(dirname "$0")" && pwd)/pom.xml
cache=${HEADWATER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/headwater}
libs=$cache/kafka-$(cksum <"$pom" | tr ' ' -)

if [ ! -d "$libs" ]; then
    command -v mvn >/dev/null || { echo "headwater: mvn is missing: sudo apt-get install maven" >&2; exit 1; }
    echo "headwater: fetching Kafka from Maven Central into $libs (55 MB)" >&2
    mkdir -p "$cache"
    half=$(mktemp -d "$cache/kafka-new.XXXXXX")
    cp "$pom" "$half/pom.xml" # Maven writes beside the pom that it is given
    if ! mvn -q -B -f "$half/pom.xml" dependency:copy-dependencies -DoutputDirectory="$half/libs" >&2; then
        rm -rf "$half"
        echo "headwater: Kafka's jars cannot be fetched (see above)" >&2
        exit 1
    fi
    mv "$half/libs" "$libs" 2>/dev/null || [ -d "$libs" ] # another one may have been quicker
    rm -rf "$half"
fi
echo "$libs"
