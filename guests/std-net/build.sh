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
manifest=$here/components.json
target_dir=${XDG_CACHE_HOME:-$HOME/.cache}/kittiwake/guests
components="connects listens"
cd "$here"

say() { printf '%s\n' "guests/std-net: $*" >&2; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }
sources() { find Cargo.toml Cargo.lock src -type f | LC_ALL=C sort; }

print_manifest() { # toolchain
  local separator=$'\n' name
  printf '{\n  "toolchain": "%s",\n' "$1"
  printf '  "sources_sha256": "%s",\n' "$(sources | while IFS= read -r path; do sha256 "$path"; done | sha256 | cut -d' ' -f1)"
  printf '  "components": {'
  for name in $components; do
    printf '%s    "%s.wasm": "%s"' "$separator" "$name" "$(sha256 "$name.wasm" | cut -d' ' -f1)"
    separator=$',\n'
  done
  printf '\n  }\n}\n'
}

check() {
  local toolchain
  toolchain=$(sed -n 's/^  "toolchain": "\(.*\)",$/\1/p' "$manifest")
  if ! diff -u --label components.json --label "what is there" "$manifest" <(print_manifest "$toolchain") >&2; then
    say "sources or components are not those of components.json; run guests/std-net/build.sh"
    exit 1
  fi
  say "sources and components match components.json"
}

build() {
  local rustc=${RUSTC:-rustc} flags=("--remap-path-prefix=$HOME=/home" "--remap-path-prefix=$here=/std-net") libdir name
  if [ -n "${SYSROOT:-}" ]; then flags+=(--sysroot "$SYSROOT" "--remap-path-prefix=$SYSROOT=/sysroot")
  elif ! { libdir=$("$rustc" --print target-libdir --target wasm32-wasip2 2>/dev/null) && [ -d "$libdir" ]; }; then
    say "wasm32-wasip2 is not installed; run: rustup target add wasm32-wasip2"; exit 3
  fi
  env -u RUSTFLAGS RUSTC="$rustc" CARGO_TARGET_DIR="$target_dir" CARGO_ENCODED_RUSTFLAGS="$(IFS=$'\x1f'; printf '%s' "${flags[*]}")" \
    cargo build --quiet --locked --release --target wasm32-wasip2 -j"${JOBS:-2}"
  for name in $components; do cp "$target_dir/wasm32-wasip2/release/$name.wasm" "$name.wasm"; done
  print_manifest "$("$rustc" --version)${SYSROOT:+, ${SYSROOT_NAME:-a sysroot of its own}}" > "$manifest.new"
  mv "$manifest.new" "$manifest"
  say "$(cat ./*.wasm | wc -c) bytes"
}

case ${1:-} in
  --check) check ;;
  '') build ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p;}' "$0" ;;
esac
