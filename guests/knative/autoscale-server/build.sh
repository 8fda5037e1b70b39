#!/usr/bin/env bash
# Builds autoscale.wasm, and keeps component.json.
#
#   guests/knative/autoscale-server/build.sh            build it
#   guests/knative/autoscale-server/build.sh --check    do sources and module match component.json? (no toolchain)
#
# Toolchain and rules are those of examples/build.sh (guests/README.md). Nobody needs this to run Kittiwake or its tests: the
# module is in the repository.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$here/../../.." && pwd -P)
target=wasm32-wasip1
target_dir=${XDG_CACHE_HOME:-$HOME/.cache}/kittiwake/guests
cd "$root"

say() { printf '%s\n' "guests/knative/autoscale-server: $*" >&2; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

# Two of its sources are the example's.
sources() {
  (printf 'examples/wasmedge-server/src/%s\n' connection.rs http.rs
    find guests/knative/autoscale-server/{Cargo.toml,Cargo.lock,src} -type f) | LC_ALL=C sort
}

print_manifest() { # toolchain
  printf '{\n  "module": "autoscale.wasm",\n  "toolchain": "%s",\n' "$1"
  printf '  "sha256": "%s",\n' "$(sha256 "$here/autoscale.wasm" | cut -d' ' -f1)"
  printf '  "sources_sha256": "%s"\n}\n' "$(sources | while IFS= read -r path; do sha256 "$path"; done | sha256 | cut -d' ' -f1)"
}

case ${1:-} in
  --check)
    toolchain=$(sed -n 's/^  "toolchain": "\(.*\)",$/\1/p' "$here/component.json")
    diff -u --label component.json --label "what is there" "$here/component.json" <(print_manifest "$toolchain") >&2 ||
      { say "sources or module are not those of component.json; run guests/knative/autoscale-server/build.sh"; exit 1; }
    say "sources and module match component.json" ;;
  '')
    rustc=${RUSTC:-rustc} sysroot=''
    if ! { libdir=$(rustc --print target-libdir --target $target 2>/dev/null) && [ -d "$libdir" ]; }; then
      sysroot=$(TARGETS="${TARGETS:-wasm32-wasip1 wasm32-wasip2}" "$root/guests/sysroot.sh") || exit 3
      rustc=${WASM_RUSTC:-/usr/bin/rustc}
    fi
    cd "$here"
    cargo fetch --quiet --locked --target $target
    # No path of this machine may be left in a module. Of two prefixes that fit, rustc takes the later one.
    flags=("--remap-path-prefix=$HOME=/home" "--remap-path-prefix=$root=/kittiwake")
    [ -z "$sysroot" ] || flags+=(--sysroot "$sysroot" "--remap-path-prefix=$sysroot=/sysroot")
    for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do flags+=("--remap-path-prefix=$registry=/cargo"); done
    env -u RUSTFLAGS RUSTC="$rustc" CARGO_TARGET_DIR="$target_dir" CARGO_ENCODED_RUSTFLAGS="$(IFS=$'\x1f'; printf '%s' "${flags[*]}")" \
      cargo build --quiet --locked --release --target $target -j"${JOBS:-2}"
    cp "$target_dir/$target/release/autoscale.wasm" autoscale.wasm
    cd "$root"
    print_manifest "$("$rustc" --version)${sysroot:+, std of guests/sysroot.sh}" > "$here/component.json"
    say "$(wc -c < "$here/autoscale.wasm") bytes" ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p;}' "$0" ;;
esac
