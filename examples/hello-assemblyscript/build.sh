#!/usr/bin/env bash
# Builds the component: examples/hello-assemblyscript/build.sh [OUTPUT]. Needs npm and node 18 or newer.
# `examples/build.sh hello-assemblyscript` does the same and records it in components.json.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=${1:-$here/hello-assemblyscript.wasm}
case $output in /*) ;; *) output=$PWD/$output ;; esac
cd "$here"
npm ci --loglevel=error --no-audit --no-fund --ignore-scripts
node build.mjs "$output"
