#!/usr/bin/env bash
# Builds the image of the tests' attacker from this machine's own busybox and curl, and prints its reference.
set -euo pipefail
# shellcheck source=../cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
context=$STATE/context/attacker
[[ -x /bin/busybox ]] || die "busybox is missing; install Debian's busybox-static"
rm -rf "$context"
mkdir -p "$context/bin" "$context/etc"
cp /bin/busybox "$context/bin/"
for name in sh cat cut dd grep head id ip kill ls mkdir mount nc nslookup ping printf sed sleep tr unshare wget; do
  ln -s busybox "$context/bin/$name"
done
# curl with the libraries that it is linked to, at their own places.
cp "$(command -v curl)" "$context/bin/"
ldd "$(command -v curl)" | grep -oE '/[^ ]+' | while read -r library; do
  mkdir -p "$context$(dirname "$library")"
  cp -L "$library" "$context$library"
done
cp "$here/attack.sh" "$context/bin/attack"
chmod 755 "$context/bin/attack"
exec "$CLUSTER_DIR/image.sh" attacker "$here/Containerfile" "$context"
