#!/usr/bin/env bash
# Builds the component: examples/hello-javascript/build.sh [OUTPUT]. Needs npm and node 20 or newer, and 190 MB of disk.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=${1:-$here/hello-javascript.wasm}
case $output in /*) ;; *) output=$PWD/$output ;; esac
cd "$here"
npm ci --loglevel=error --no-audit --no-fund --ignore-scripts
node build.mjs "$output"
