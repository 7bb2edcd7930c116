#!/bin/sh
# Puts what the image is made of into deploy/balena/agent: Headwater's wheel, and the libraries of uv.lock with their hashes.
# Words are further extras: deploy/balena/pack.sh river onnx
set -eu
cd "$(dirname "$0")/../.."
agent=${HEADWATER_PACK_INTO:-deploy/balena/agent}
uv=${UV:-.venv/bin/uv}
[ -x "$uv" ] || deploy/venv.sh
extras=
for name in edge kafka "$@"; do
    extras="$extras --extra $name"
done
rm -f "$agent"/headwater-*.whl "$agent/requirements.txt"
# shellcheck disable=SC2086 (a list of options)
"$uv" export --quiet --frozen --no-dev --no-emit-project --no-annotate $extras --output-file "$agent/requirements.txt"
"$uv" build --quiet --wheel --out-dir "$agent"
rm -f "$agent/.gitignore" # uv's own
cp deploy/healthy.py "$agent/healthy.py"
echo "packed into $agent: now, balena push FLEET --source deploy/balena"
