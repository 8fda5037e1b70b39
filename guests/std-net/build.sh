#!/usr/bin/env bash
# Builds the two components here, and keeps components.json.
#
#   guests/std-net/build.sh            build them
#   guests/std-net/build.sh --check    do sources and components match components.json? (no toolchain, no network)
#
# Needs a wasm32-wasip2 whose libc has sockets: that of rustup (rustup target add wasm32-wasip2), or a sysroot that SYSROOT
# names, of the compiler that RUSTC names. That of guests/sysroot.sh has none. Nobody needs this to run Kittiwake or its tests.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd -P)
name=guests/std-net manifest=$here/components.json what=components
target_dir=${XDG_CACHE_HOME:-$HOME/.cache}/kittiwake/guests
components="connects listens"
cd "$here"
# shellcheck source=guests/manifest.sh
. ../manifest.sh

artifacts() { printf '%s.wasm\n' $components; }
sources() { find Cargo.toml Cargo.lock src -type f | LC_ALL=C sort; }

build() {
  local rustc=${RUSTC:-rustc} flags=("--remap-path-prefix=$HOME=/home" "--remap-path-prefix=$here=/std-net") libdir program
  if [ -n "${SYSROOT:-}" ]; then flags+=(--sysroot "$SYSROOT" "--remap-path-prefix=$SYSROOT=/sysroot")
  elif ! { libdir=$("$rustc" --print target-libdir --target wasm32-wasip2 2>/dev/null) && [ -d "$libdir" ]; }; then
    say "wasm32-wasip2 is not installed; run: rustup target add wasm32-wasip2"; exit 3
  fi
  env -u RUSTFLAGS RUSTC="$rustc" CARGO_TARGET_DIR="$target_dir" CARGO_ENCODED_RUSTFLAGS="$(IFS=$'\x1f'; printf '%s' "${flags[*]}")" \
    cargo build --quiet --locked --release --target wasm32-wasip2 -j"${JOBS:-2}"
  for program in $components; do cp "$target_dir/wasm32-wasip2/release/$program.wasm" "$program.wasm"; done
  write_manifest "$("$rustc" --version)${SYSROOT:+, ${SYSROOT_NAME:-a sysroot of its own}}"
  say "$(cat ./*.wasm | wc -c) bytes"
}

case ${1:-} in
  --check) check ;;
  '') build ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p;}' "$here/build.sh" ;;
esac
