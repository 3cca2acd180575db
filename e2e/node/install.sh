#!/usr/bin/env bash
# Installs what package-lock.json lists, once, into a cache that is keyed by it, and prints the folder. No package's
# own scripts are run.
set -euo pipefail
# shellcheck source=../cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$CACHE/node/$(sha256sum <"$here/package-lock.json" | cut -d' ' -f1)
if [[ ! -d $folder ]]; then
  if ! command -v npm >/dev/null; then
    [[ $(id -u) == 0 ]] || die "npm is missing; install Node.js 20 or later"
    say "installing Node.js (about 30 s, once)"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
  fi
  say "installing the tests' counterparts from npm (about 15 s, once)"
  partial=$folder.partial.$$
  rm -rf "$partial"
  mkdir -p "$partial"
  cp "$here/package.json" "$here/package-lock.json" "$partial/"
  (cd "$partial" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
  # Somebody else may have been faster.
  mv -T "$partial" "$folder" 2>/dev/null || rm -rf "$partial"
fi
echo "$folder"
