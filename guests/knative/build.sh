#!/usr/bin/env bash
# Builds the look-alikes of Knative's test images, and keeps components.json.
#
#   guests/knative/build.sh            build all of them
#   guests/knative/build.sh --check    do sources and components match components.json? (no toolchain, no network)
#
# Toolchain and the rule of components.json are those of examples/build.sh (guests/README.md). Nobody needs this to run
# Kittiwake or its tests: the components are in the repository.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)
manifest=$here/components.json
target=wasm32-wasip2
target_dir=${XDG_CACHE_HOME:-$HOME/.cache}/kittiwake/guests
cd "$here"

say() { printf '%s\n' "guests/knative: $*" >&2; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

# All images have the same sources: one crate.
sources() { find Cargo.toml Cargo.lock src images -type f | LC_ALL=C sort; }
images() { sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.toml | grep -v '^kittiwake-' | LC_ALL=C sort; }

print_manifest() { # toolchain
  local separator=$'\n' name
  printf '{\n  "toolchain": "%s",\n' "$1"
  printf '  "sources_sha256": "%s",\n' "$(sources | while IFS= read -r path; do sha256 "$path"; done | sha256 | cut -d' ' -f1)"
  printf '  "components": {'
  for name in $(images); do
    printf '%s    "%s.wasm": "%s"' "$separator" "$name" "$(sha256 "$name.wasm" | cut -d' ' -f1)"
    separator=$',\n'
  done
  printf '\n  }\n}\n'
}

check() {
  local toolchain
  toolchain=$(sed -n 's/^  "toolchain": "\(.*\)",$/\1/p' "$manifest")
  if ! diff -u --label components.json --label "what is there" "$manifest" <(print_manifest "$toolchain") >&2; then
    say "sources or components are not those of components.json; run guests/knative/build.sh"
    exit 1
  fi
  say "sources and components match components.json"
}

build() {
  local rustc=${RUSTC:-rustc} sysroot='' registry flags name
  local libdir
  if ! { libdir=$(rustc --print target-libdir --target $target 2>/dev/null) && [ -d "$libdir" ]; }; then
    sysroot=$("$root/guests/sysroot.sh") || exit 3
    rustc=${WASM_RUSTC:-/usr/bin/rustc}
  fi
  cargo fetch --quiet --locked --target $target
  # No path of this machine may be left in a component. Of two prefixes that fit, rustc takes the later one.
  flags=("--remap-path-prefix=$HOME=/home" "--remap-path-prefix=$here=/knative")
  [ -z "$sysroot" ] || flags+=(--sysroot "$sysroot" "--remap-path-prefix=$sysroot=/sysroot")
  for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do flags+=("--remap-path-prefix=$registry=/cargo"); done
  env -u RUSTFLAGS RUSTC="$rustc" CARGO_TARGET_DIR="$target_dir" CARGO_ENCODED_RUSTFLAGS="$(IFS=$'\x1f'; printf '%s' "${flags[*]}")" \
    cargo build --quiet --locked --release --examples --target $target -j"${JOBS:-2}"
  for name in $(images); do cp "$target_dir/$target/release/examples/$name.wasm" "$name.wasm"; done
  print_manifest "$("$rustc" --version)${sysroot:+, std of guests/sysroot.sh}" > "$manifest.new"
  mv "$manifest.new" "$manifest"
  say "$(images | wc -l) components, $(cat ./*.wasm | wc -c) bytes"
}

case ${1:-} in
  --check) check ;;
  '') build ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p;}' "$0" ;;
esac
