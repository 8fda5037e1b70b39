# Sourced by the build.sh of guests: components.json, which says what the checked-in artifacts were built from.
#
# Who sources it sets `name` (its folder, as its messages name it), `manifest` (the file) and `what` (the key of the artifacts, as
# messages call them, too), and defines `sources` and `artifacts`, which list paths, sorted by byte.

say() { printf '%s\n' "$name: $*" >&2; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

print_manifest() { # toolchain
  local separator=$'\n' artifact
  printf '{\n  "toolchain": "%s",\n' "$1"
  printf '  "sources_sha256": "%s",\n' "$(sources | while IFS= read -r path; do sha256 "$path"; done | sha256 | cut -d' ' -f1)"
  printf '  "%s": {' "$what"
  for artifact in $(artifacts); do
    printf '%s    "%s": "%s"' "$separator" "$artifact" "$(sha256 "$artifact" | cut -d' ' -f1)"
    separator=$',\n'
  done
  printf '\n  }\n}\n'
}

write_manifest() { # toolchain
  print_manifest "$1" > "$manifest.new"
  mv "$manifest.new" "$manifest"
}

check() {
  local toolchain
  toolchain=$(sed -n 's/^  "toolchain": "\(.*\)",$/\1/p' "$manifest")
  if ! diff -u --label components.json --label "what is there" "$manifest" <(print_manifest "$toolchain") >&2; then
    say "sources or $what are not those of components.json; run $name/build.sh"
    exit 1
  fi
  say "sources and $what match components.json"
}
