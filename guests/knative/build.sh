#!/usr/bin/env bash
# Builds the look-alikes of Knative's test images, and keeps components.json.
#
#   guests/knative/build.sh            build all of them
#   guests/knative/build.sh --check    do sources and images match components.json? (no toolchain, no network)
#
# Toolchain and the rule of components.json are those of examples/build.sh (guests/README.md). Nobody needs this to run
# Kittiwake or its tests: the images are in the repository.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)
name=guests/knative manifest=$here/components.json what=images
target_dir=${XDG_CACHE_HOME:-$HOME/.cache}/kittiwake/guests
cd "$here"
# shellcheck source=guests/manifest.sh
. "$root/guests/manifest.sh"


# Two crates: components here, programs that listen and stay in servers. All images of both have the same sources. Servers are
# modules with WasmEdge's sockets; these are components with wasi:sockets as well.
component_servers="grpc-ping"
sources() {
  find Cargo.toml Cargo.lock src images servers/Cargo.toml servers/Cargo.lock servers/src servers/images -type f | LC_ALL=C sort
}
names() { sed -n 's/^name = "\(.*\)"$/\1/p' "$1/Cargo.toml" | grep -v '^kittiwake-'; }
artifacts() { { names . | sed 's/$/.wasm/'; names servers | sed 's/.*/servers\/&.wasm/'
  printf 'servers/components/%s.wasm\n' $component_servers; } | LC_ALL=C sort; }

has_target() { local libdir; libdir=$(rustc --print target-libdir --target "$1" 2>/dev/null) && [ -d "$libdir" ]; }

# Compiles one crate; $rustc and $flags say with what.
compile() { # folder, target, what…
  local folder=$1 target=$2
  shift 2
  (cd "$folder" && cargo fetch --quiet --locked --target "$target" &&
    env -u RUSTFLAGS RUSTC="$rustc" CARGO_TARGET_DIR="$target_dir" CARGO_ENCODED_RUSTFLAGS="$(IFS=$'\x1f'; printf '%s' "${flags[*]}")" \
      cargo build --quiet --locked --release "$@" --target "$target" -j"${JOBS:-2}")
}

build() {
  local rustc=${RUSTC:-rustc} sysroot='' registry flags program
  if ! { has_target wasm32-wasip1 && has_target wasm32-wasip2; }; then
    sysroot=$(TARGETS="${TARGETS:-wasm32-wasip1 wasm32-wasip2}" "$root/guests/sysroot.sh") || exit 3
    rustc=${WASM_RUSTC:-/usr/bin/rustc}
  fi
  # No path of this machine may be left in an image. Of two prefixes that fit, rustc takes the later one.
  flags=("--remap-path-prefix=$HOME=/home" "--remap-path-prefix=$here=/knative")
  [ -z "$sysroot" ] || flags+=(--sysroot "$sysroot" "--remap-path-prefix=$sysroot=/sysroot")
  for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do flags+=("--remap-path-prefix=$registry=/cargo"); done
  compile . wasm32-wasip2 --examples
  for program in $(names .); do cp "$target_dir/wasm32-wasip2/release/examples/$program.wasm" "$program.wasm"; done
  compile servers wasm32-wasip1 --bins
  for program in $(names servers); do cp "$target_dir/wasm32-wasip1/release/$program.wasm" "servers/$program.wasm"; done
  # shellcheck disable=SC2086 # words
  compile servers wasm32-wasip2 $(printf -- '--bin %s ' $component_servers)
  for program in $component_servers; do cp "$target_dir/wasm32-wasip2/release/$program.wasm" "servers/components/$program.wasm"; done
  write_manifest "$("$rustc" --version)${sysroot:+, std of guests/sysroot.sh}"
  say "$(artifacts | wc -l) images, $(artifacts | xargs cat | wc -c) bytes"
}

case ${1:-} in
  --check) check ;;
  '') build ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p;}' "$here/build.sh" ;;
esac
