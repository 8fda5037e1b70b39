#!/usr/bin/env bash
# Makes a Rust sysroot with WebAssembly targets on a machine whose rustup cannot add targets: Debian's own
# compiler (rustc-web) builds std from Debian's source (rust-web-src), wasi-libc gives the C side, and the
# linkers are the ones that rustup's host toolchain already carries.
#
#   guests/sysroot.sh          make it if it is missing or out of date, then print its path on stdout
#
# Environment (all optional):
#   KITTIWAKE_SYSROOT   where it goes     default ${XDG_CACHE_HOME:-~/.cache}/kittiwake/sysroot
#   TARGETS             which targets     default wasm32-wasip2 (wasm32-wasip1 and wasm32-unknown-unknown work too)
#   WASM_RUSTC          which compiler    default /usr/bin/rustc, the one of the package rustc-web
#   JOBS                parallel jobs     default 2
#
# Takes one to five minutes and about 90 MB per target; a second run returns at once. Exit 3: a needed part cannot be had.
set -euo pipefail

say() { printf '%s\n' "sysroot: $*" >&2; }
fail() { say "$*"; exit 3; }

dest=${KITTIWAKE_SYSROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/kittiwake/sysroot}
targets=${TARGETS:-wasm32-wasip2}
rustc=${WASM_RUSTC:-/usr/bin/rustc}
script_version=2

# apt-get install, by ourselves when we may, else telling the command.
install_packages() {
  command -v apt-get >/dev/null || fail "needs the Debian packages $*, and this machine has no apt-get; use rustup target add instead (guests/README.md)"
  local as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  say "installing $*"
  "${as_root[@]}" apt-get install -y --no-install-recommends "$@" >&2 && return
  "${as_root[@]}" apt-get update >&2 && "${as_root[@]}" apt-get install -y --no-install-recommends "$@" >&2 ||
    fail "could not install $*; run: sudo apt-get install $*"
}

find_std_source() { # the library/ folder that belongs to $rustc, or nothing
  local sysroot
  sysroot=$("$rustc" --print sysroot 2>/dev/null) || return 0
  for source in "$sysroot/lib/rustlib/src/rust/library" "/usr/src/rustc-$("$rustc" --version | cut -d' ' -f2)/library"; do
    if [ -e "$source/Cargo.lock" ]; then printf '%s\n' "$source"; return 0; fi
  done
}

packages=()
"$rustc" --version 2>/dev/null | grep -q . || packages+=(rustc-web)
[ -n "$(find_std_source)" ] || packages+=(rust-web-src)
[ -e /usr/lib/wasm32-wasi/libc.a ] || packages+=(wasi-libc)
[ ${#packages[@]} = 0 ] || install_packages "${packages[@]}"
std_source=$(find_std_source)
[ -n "$std_source" ] || fail "found no std source for $("$rustc" --version); rustc-web and rust-web-src must have one version"

stamp="$("$rustc" -vV | tr '\n' ' '); $targets; script $script_version"
if [ "$(cat "$dest/stamp" 2>/dev/null)" = "$stamp" ]; then printf '%s\n' "$dest"; exit 0; fi

host=$("$rustc" -vV | sed -n 's/^host: //p')
host_tools=$(rustc --print sysroot)/lib/rustlib/$host/bin
work=$dest.work.$$
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/seed/src" "$work/out"

say "building std for $targets with $("$rustc" --version); this takes some minutes"
cat > "$work/seed/Cargo.toml" <<'TOML'
[package]
name = "stdseed"
version = "0.0.0"
edition = "2021"
[profile.release]
panic = "abort"
debug = 0
[workspace]
TOML
: > "$work/seed/src/lib.rs"
target_flags=()
for target in $targets; do target_flags+=(--target "$target"); done
# embed-bitcode: cargo switches it off for a profile without LTO, and then guests with LTO cannot link.
# The remaps keep the paths of this machine out of panic messages.
flags=(-Cembed-bitcode=yes "--remap-path-prefix=$work=/work" "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
  "--remap-path-prefix=$std_source=/rustc/library" "--remap-path-prefix=$(realpath "$std_source")=/rustc/library")
(cd "$work/seed" && env -u RUSTFLAGS RUSTC="$rustc" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$work/target" \
  CARGO_ENCODED_RUSTFLAGS="$(IFS=$'\x1f'; printf '%s' "${flags[*]}")" \
  cargo build --release -j"${JOBS:-2}" -Zbuild-std=std,panic_abort "${target_flags[@]}" >&2)

tools=$work/out/lib/rustlib/$host/bin
mkdir -p "$tools"
for tool in rust-lld wasm-component-ld; do
  if [ -e "$host_tools/$tool" ]; then ln -s "$host_tools/$tool" "$tools/$tool"
  elif command -v "$tool" >/dev/null; then ln -s "$(command -v "$tool")" "$tools/$tool"
  elif [ "$tool" = rust-lld ] && command -v wasm-ld >/dev/null; then ln -s "$(command -v wasm-ld)" "$tools/$tool"
  else fail "found no $tool in $host_tools nor on PATH (cargo install wasm-component-ld, apt-get install lld)"
  fi
done
[ ! -d "$host_tools/gcc-ld" ] || ln -s "$host_tools/gcc-ld" "$tools/gcc-ld"

# The startup object of 2022's wasi-libc does not name __wasm_call_ctors; the linker then wraps every export with
# constructor calls, and a component with a preopened folder traps ("cannot leave component instance"). So: our own.
cat > "$work/crt1.rs" <<'RUST'
#![no_std]
extern "C" {
    fn __wasm_call_ctors();
    fn __wasm_call_dtors();
    fn __main_void() -> i32;
    fn __wasi_proc_exit(code: i32) -> !;
}
#[no_mangle]
pub unsafe extern "C" fn _start() {
    __wasm_call_ctors();
    let code = __main_void();
    __wasm_call_dtors();
    if code != 0 {
        __wasi_proc_exit(code)
    }
}
RUST
for target in $targets; do
  lib=$work/out/lib/rustlib/$target/lib
  mkdir -p "$lib"
  cp "$work/target/$target"/release/deps/*.rlib "$lib/"
  rm -f "$lib"/libstdseed*
  case $target in wasm32-wasi*)
    mkdir -p "$lib/self-contained"
    cp /usr/lib/wasm32-wasi/{libc.a,crt1-reactor.o} "$lib/self-contained/"
    "$rustc" --sysroot "$work/out" --target "$target" --edition 2021 --crate-type lib --emit obj -O \
      -Cpanic=abort -Ccodegen-units=1 "$work/crt1.rs" -o "$lib/self-contained/crt1-command.o" ;;
  esac
done
printf '%s\n' "$stamp" > "$work/out/stamp"
rm -rf "$dest"
mkdir -p "$(dirname "$dest")"
mv "$work/out" "$dest"
say "ready: $(du -sh "$dest" | cut -f1) in $dest"
printf '%s\n' "$dest"
