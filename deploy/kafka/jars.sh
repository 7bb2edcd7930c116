#!/bin/sh
# Prints the folder that holds Kafka's jars; fetches them from Maven Central first, once for each version of pom.xml.
# They stay outside the tree, in HEADWATER_CACHE or ~/.cache/headwater. Needs java (17 or newer) and mvn.
set -eu
pom=$(cd "$(dirname "$0")" && pwd)/pom.xml
cache=${HEADWATER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/headwater}
libs=$cache/kafka-$(cksum <"$pom" | tr ' ' -)

# Shows what Maven says as a line that grows (where nobody watches, a line each 10 MB), and its errors as they are.
progress() {
    kb=0 shown=0
    while IFS= read -r line; do
        case $line in
        *"Downloaded from "*"("*" at "*)
            size=${line##*\(} size=${size%% at *}
            number=${size% *} # such as 5.4, of MB
            case $size in
            *" MB") kb=$((kb + ${number%.*} * 1000)) ;;
            *" kB") kb=$((kb + ${number%.*})) ;;
            esac
            if [ -t 2 ]; then
                printf '\rheadwater: %d MB fetched ' $((kb / 1000)) >&2
            elif [ $((kb / 10000)) -gt "$shown" ]; then
                shown=$((kb / 10000))
                echo "headwater: $((shown * 10)) MB fetched" >&2
            fi
            ;;
        *ERROR*) echo "$line" >&2 ;;
        esac
    done
    [ ! -t 2 ] || [ "$kb" = 0 ] || echo >&2
}

if [ ! -d "$libs" ]; then
    command -v mvn >/dev/null || { echo "headwater: mvn is missing: sudo apt-get install maven" >&2; exit 1; }
    echo "headwater: fetching Kafka from Maven Central into $libs (about 65 MB, once)" >&2
    mkdir -p "$cache"
    half=$(mktemp -d "$cache/kafka-new.XXXXXX")
    trap 'rm -rf "$half"' EXIT
    trap 'exit 130' INT TERM
    cp "$pom" "$half/pom.xml" # Maven writes beside the pom that it is given
    { mvn -B -f "$half/pom.xml" dependency:copy-dependencies -DoutputDirectory="$half/libs" 2>&1 && : >"$half/whole"; } | progress
    if [ ! -e "$half/whole" ]; then
        echo "headwater: Kafka's jars cannot be fetched (see above)" >&2
        exit 1
    fi
    mv "$half/libs" "$libs" 2>/dev/null || [ -d "$libs" ] # another one may have been quicker
fi
echo "$libs"
