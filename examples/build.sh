#!/usr/bin/env bash
# Builds the examples' checked-in components from the source beside them, and keeps components.json.
#
#   examples/build.sh              build all of them
#   examples/build.sh hello echo   build these
#   examples/build.sh --check      do sources and components match components.json? (no toolchain, no network)
#   examples/build.sh --verify     build into a folder for a moment and compare with what is checked in
#
# Nobody needs this to run Kittiwake: the components are in the repository. What each language needs, and the rule of
# components.json, is in guests/README.md. Exit 1: something does not match or compile. Exit 3: a toolchain is missing;
# the checked-in components are left as they are.
set -euo pipefail

examples=$(cd "$(dirname "$0")" && pwd -P)
root=$(dirname "$examples")
manifest=$examples/components.json
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kittiwake
cargo_home=${CARGO_HOME:-$HOME/.cargo}
cd "$examples" # rust-toolchain.toml holds from here

rust_examples="hello echo json-rest concurrent wasmedge-server component-server cgi cgi-component"
preview1_examples="wasmedge-server cgi" # of the Rust ones, those that are modules of WASI preview 1
c_examples="hello-c"
assemblyscript_examples="hello-assemblyscript"
all_examples="hello echo json-rest concurrent wasmedge-server component-server cgi cgi-component hello-c hello-assemblyscript"

say() { printf '%s\n' "examples: $*" >&2; }
missing() { say "$*"; say "the checked-in components stay as they are"; exit 3; }
is_one_of() { case " $2 " in *" $1 "*) ;; *) return 1 ;; esac; }

# --- components.json ---------------------------------------------------------------------------------------------

# The files that decide what an example's component is, relative to examples/, sorted by byte.
sources_of() {
  (cd "$examples" && {
    if is_one_of "$1" "$rust_examples"; then find "$1/Cargo.toml" "$1/Cargo.lock" "$1/src" -type f
    elif is_one_of "$1" "$c_examples"; then find "$1" wit -type f \( -name '*.c' -o -name '*.h' -o -name '*.wit' \)
    else find "$1/package.json" "$1/package-lock.json" "$1/build.mjs" "$1/assembly" wit -type f
    fi
  } | LC_ALL=C sort)
}

sha256() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }
sha256_of() { sha256 "$1" | cut -d' ' -f1; }

# sha256 over the lines that `sha256sum` prints for the sources: "<sha256>  <path>\n".
sources_sha256_of() { sources_of "$1" | while IFS= read -r path; do sha256 "$path"; done | sha256 | cut -d' ' -f1; }

recorded_toolchain_of() { # name
  sed -n "/\"component\": \"$1\/$1.wasm\"/,/}/s/.*\"toolchain\": \"\(.*\)\",/\1/p" "$manifest" 2>/dev/null || true
}

entry_of() { # name, toolchain
  printf '    {\n      "component": "%s",\n      "sha256": "%s",\n      "toolchain": "%s",\n' \
    "$1/$1.wasm" "$(sha256_of "$examples/$1/$1.wasm")" "$2"
  printf '      "sources_sha256": "%s",\n      "sources": [\n' "$(sources_sha256_of "$1")"
  sources_of "$1" | sed 's/.*/        "&",/; $ s/,$//'
  printf '      ]\n    }'
}

# The whole manifest; the toolchain of $1 is $2, that of the others what is recorded.
print_manifest() {
  local separator=$'\n' name toolchain
  printf '{\n  "components": ['
  for name in $all_examples; do
    [ -e "$examples/$name/$name.wasm" ] || continue
    toolchain=$(recorded_toolchain_of "$name")
    [ "$name" != "${1:-}" ] || toolchain=$2
    printf '%s%s' "$separator" "$(entry_of "$name" "$toolchain")"
    separator=$',\n'
  done
  printf '\n  ]\n}\n'
}

check() {
  local name
  for name in $all_examples; do
    [ -e "$examples/$name/$name.wasm" ] || { say "$name/$name.wasm is missing; run examples/build.sh $name"; exit 1; }
  done
  if ! diff -u --label components.json --label "what is there" "$manifest" <(print_manifest) >&2; then
    say "sources or components are not those of components.json; run examples/build.sh for the examples named above"
    exit 1
  fi
  say "sources and components match components.json"
}

# --- Rust --------------------------------------------------------------------------------------------------------

guest_rustc=${RUSTC:-rustc} guest_sysroot='' rust_ready=''

target_of() { if is_one_of "$1" "$preview1_examples"; then echo wasm32-wasip1; else echo wasm32-wasip2; fi; }
has_target() { local lib; lib=$(rustc --print target-libdir --target "$1" 2>/dev/null) && [ -d "$lib" ]; }

find_rust() { # target
  is_one_of "$1" "$rust_ready" && return 0
  command -v cargo >/dev/null || missing "needs cargo: https://rustup.rs"
  if has_target "$1"; then :
  elif [ "${GUESTS_RUSTUP:-}" = 1 ]; then
    rustup target add "$1" >&2 && has_target "$1" || missing "rustup could not add $1"
  else
    say "$1 is not installed (GUESTS_RUSTUP=1 would add it with rustup); trying Debian's packages"
    # Both, since what is kept belongs to one list of targets.
    guest_sysroot=$(TARGETS="${TARGETS:-wasm32-wasip1 wasm32-wasip2}" "$root/guests/sysroot.sh") ||
      missing "no Rust toolchain for $1; run: rustup target add $1"
    guest_rustc=${WASM_RUSTC:-/usr/bin/rustc}
  fi
  rust_ready="$rust_ready $1"
}

linker_version() { "$(component_linker)" --version | sed 's/^wasm-component-ld //'; }

component_linker() {
  local bundled
  bundled=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/wasm-component-ld
  if [ -x "$bundled" ]; then printf '%s\n' "$bundled"; else command -v wasm-component-ld; fi
}

rust_toolchain() { # name
  local toolchain
  toolchain="$("$guest_rustc" --version)"
  [ -z "$guest_sysroot" ] || toolchain="$toolchain, std of guests/sysroot.sh"
  is_one_of "$1" "$preview1_examples" || toolchain="$toolchain, wasm-component-ld $(linker_version)"
  printf '%s\n' "$toolchain"
}

build_rust() { # name, output
  local target
  target=$(target_of "$1")
  (cd "$examples/$1" && cargo fetch --quiet --locked --target "$target")
  # No path of this machine may be left in a component. Of two prefixes that fit, rustc takes the later one.
  local flags=("--remap-path-prefix=$HOME=/home" "--remap-path-prefix=$examples=/examples") registry
  [ -z "$guest_sysroot" ] || flags+=(--sysroot "$guest_sysroot" "--remap-path-prefix=$guest_sysroot=/sysroot")
  for registry in "$cargo_home"/registry/src/*; do flags+=("--remap-path-prefix=$registry=/cargo"); done
  local target_dir=$cache/guests
  # Not RUSTFLAGS: that one splits at spaces.
  (cd "$examples/$1" && env -u RUSTFLAGS RUSTC="$guest_rustc" CARGO_TARGET_DIR="$target_dir" \
    CARGO_ENCODED_RUSTFLAGS="$(IFS=$'\x1f'; printf '%s' "${flags[*]}")" \
    cargo build --quiet --locked --release --target "$target" -j"${JOBS:-2}")
  cp "$target_dir/$target/release/kittiwake_example_$(printf '%s' "$1" | tr - _).wasm" "$2"
}

# --- C -----------------------------------------------------------------------------------------------------------

find_c() {
  command -v rustc >/dev/null && component_linker >/dev/null || missing "needs wasm-component-ld, which rustup's toolchains carry"
  : "${CC:=clang}"
  printf 'int x;' | "$CC" --target=wasm32-unknown-unknown -x c -c -o /dev/null - 2>/dev/null ||
    missing "needs a clang that knows wasm32 (apt-get install clang lld, or CC=…)"
}

c_toolchain() { printf '%s, wasm-component-ld %s\n' "$("$CC" --version | head -n1)" "$(linker_version)"; }

build_c() { # name, output
  local work
  work=$(mktemp -d)
  (cd "$examples/$1" && "$CC" --target=wasm32-unknown-unknown -std=c11 -Wall -Wextra -Werror -Os -ffreestanding -nostdlib \
    -fvisibility=hidden -c "$1.c" -o "$work/$1.o")
  "$(component_linker)" -o "$2" --wasi-adapter none --component-type "$examples/wit/hello.wit" \
    --no-entry --gc-sections --strip-all -z stack-size=16384 "$work/$1.o"
  rm -r "$work"
}

# --- AssemblyScript ----------------------------------------------------------------------------------------------

find_assemblyscript() { command -v npm >/dev/null || missing "needs npm and node 18 or newer"; }
assemblyscript_toolchain() { (cd "$examples/$1" && node -p '
  const pinned = require("./package.json").devDependencies;
  Object.keys(pinned).sort().map((name) => name + " " + pinned[name]).join(", ")'); }
build_assemblyscript() { "$examples/$1/build.sh" "$2"; }

# --- all ---------------------------------------------------------------------------------------------------------

# Builds one example into the file $2 and sets `toolchain` to what built it.
build_into() {
  say "building $1"
  if is_one_of "$1" "$rust_examples"; then
    find_rust "$(target_of "$1")"; build_rust "$1" "$2"; toolchain=$(rust_toolchain "$1")
  elif is_one_of "$1" "$c_examples"; then find_c; build_c "$1" "$2"; toolchain=$(c_toolchain)
  elif is_one_of "$1" "$assemblyscript_examples"; then
    find_assemblyscript; build_assemblyscript "$1" "$2"; toolchain=$(assemblyscript_toolchain "$1")
  else say "there is no example $1 to build here; there are: $all_examples"; exit 1
  fi
}

build() {
  local name toolchain
  for name in "$@"; do
    build_into "$name" "$examples/$name/$name.wasm"
    print_manifest "$name" "$toolchain" > "$manifest.new"
    mv "$manifest.new" "$manifest"
    say "$name/$name.wasm: $(wc -c < "$examples/$name/$name.wasm") bytes"
  done
}

verify() {
  local name toolchain bad=0
  check
  fresh=$(mktemp -d) # not local: the trap needs it
  trap 'rm -rf "$fresh"' EXIT
  for name in $all_examples; do
    build_into "$name" "$fresh/$name.wasm"
    if cmp -s "$fresh/$name.wasm" "$examples/$name/$name.wasm"; then say "$name: the same bytes"
    elif [ "$toolchain" != "$(recorded_toolchain_of "$name")" ]; then
      say "$name: builds; not compared, since the toolchain is another ($toolchain)"
    else say "$name: the same toolchain built other bytes; run examples/build.sh $name"; bad=1
    fi
  done
  exit $bad
}

case ${1:-} in
  --check) check ;;
  --verify) verify ;;
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p;}' "$0" ;;
  -*) say "no such option $1; see --help"; exit 2 ;;
  '') build $all_examples ;;
  *) build "$@" ;;
esac
