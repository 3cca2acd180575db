#!/usr/bin/env bash
# Compiled dependencies, kept in the cache beside the cluster's components, so that another clone compiles only what is
# ours. What is kept is copied into a target folder that has nothing yet; cargo looks at each piece itself, and makes
# anew what does not fit.
#   restore | save
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster/lib.sh"

cd "$CLUSTER_DIR/../.."
KEPT=$CACHE/dependencies
TARGET=$(rustc -vV | sed -n 's/^host: //p')
# Programs for the machine that compiles, and for those that run.
FOLDERS=(debug "$TARGET/debug")
key=$({ cat Cargo.lock .cargo/config.toml; sed -n '/^\[profile/,$p' Cargo.toml; rustc -vV; } | sha256sum | cut -c1-16)

# without_ours FOLDER: removes what is of this workspace, so that what is kept fits any clone. Dependencies leave no
# programs there but those that build them.
without_ours() {
  find "$1/.fingerprint" "$1/build" -mindepth 1 -maxdepth 1 -name 'countersign-*' -prune -exec rm -rf {} +
  find "$1/deps" -mindepth 1 -maxdepth 1 \( -name '*countersign_*' -o -type f ! -name '*.*' \) -delete
}

case ${1:-} in
  restore)
    if [[ -d $KEPT/$key && ! -d target/debug/.fingerprint ]]; then
      say "copying compiled dependencies from the cache (about 10 s)"
      mkdir -p target
      cp -a --reflink=auto "$KEPT/$key/." target/
    fi
    ;;
  save)
    if [[ -d $KEPT/$key ]]; then exit 0; fi
    say "keeping compiled dependencies in the cache (about 20 s, once)"
    partial=$KEPT/$key.partial.$$
    mkdir -p "$partial"
    for folder in "${FOLDERS[@]}"; do
      mkdir -p "$partial/$folder"
      for part in .fingerprint build deps; do cp -a --reflink=auto "target/$folder/$part" "$partial/$folder/"; done
      without_ours "$partial/$folder"
    done
    # Older ones serve nobody once the lock file has moved on.
    find "$KEPT" -mindepth 1 -maxdepth 1 ! -name "${partial##*/}" -exec rm -rf {} +
    mv "$partial" "$KEPT/$key"
    say "kept $(du -sh "$KEPT/$key" | cut -f1)"
    ;;
  *) die "dependencies.sh: restore or save" ;;
esac
