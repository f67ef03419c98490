#!/usr/bin/env bash
# Builds ../built from src. Needs Node.js 20 and npm; node_modules stays outside of the project.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$here"/package.json "$here"/package-lock.json "$here"/src "$here"/licenses.mjs "$here"/licenses "$work"
cd "$work"
npm ci --silent --ignore-scripts --no-audit --no-fund
node node_modules/esbuild/bin/esbuild src/main.js \
    --bundle --format=esm --minify --target=es2022 --splitting --charset=utf8 --legal-comments=none \
    --outdir=built --entry-names='viewer-[hash]' --chunk-names='part-[hash]' --log-level=warning --metafile=meta.json \
    --loader:.css=text --alias:zarrita=./src/no_zarr.js --inject:./src/no_network.js \
    --define:fetch=noNetwork --define:window.fetch=noNetwork --define:globalThis.fetch=noNetwork \
    --define:XMLHttpRequest=noNetwork --define:WebSocket=noNetwork --define:EventSource=noNetwork
node licenses.mjs meta.json > built/LICENSES.txt
(cd built && sha256sum -- *.js LICENSES.txt > SHA256SUMS)
rm -rf "$here/../built"
cp -r built "$here/../built"
