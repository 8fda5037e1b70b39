#!/usr/bin/env bash
# Builds the component: examples/hello-python/build.sh [OUTPUT]. Needs python 3.10 or newer with venv and pip.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=${1:-$here/hello-python.wasm}
case $output in /*) ;; *) output=$PWD/$output ;; esac
cd "$here"
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
# componentize-py brings WASI 0.2.9 of its own, and takes no subset of a newer one.
sed 's/@0\.2\.10/@0.2.9/g' ../wit/hello.wit > .venv/hello.wit
.venv/bin/componentize-py --wit-path .venv/hello.wit --world hello componentize app --output "$output"
