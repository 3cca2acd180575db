#!/usr/bin/env bash
# Runs every command of the README, in order, as a reader would: the blocks marked sh, in one shell. (`make demo`,
# `make clean-demo` and `make test` are run by e2e/test.sh.)
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster/lib.sh"

cd "$CLUSTER_DIR/../.."
KUBECONFIG=$(kubeconfig)
export KUBECONFIG
deployed() {
  kubectl -n countersign-system get deployment countersign -o "jsonpath={.spec.template.spec.containers[0]$1}"
}
RUNNER_IMAGE=$(deployed '.env[?(@.name=="COUNTERSIGN_RUNNER_IMAGE")].value')
image=$(deployed .image)
IMAGE=${image%@*} IMAGE_DIGEST=${image#*@}
database() { kubectl -n countersign-system get secret countersign-database -o "jsonpath={.data.$1}" | base64 -d; }
DATABASE_URL=$(database url)
DATABASE_OWNER_URL=$(database ownerUrl)
export RUNNER_IMAGE IMAGE IMAGE_DIGEST DATABASE_URL DATABASE_OWNER_URL

kubectl delete namespace readme --ignore-not-found --wait >/dev/null
script=$(awk '/^```sh$/ {on = 1; next} /^```$/ {on = 0} on' README.md)
blocks=$(grep -c '^```sh$' README.md)
log=$(mktemp)
if ! bash -euo pipefail -c "$script" >"$log" 2>&1; then
  cat "$log"
  die "a command of the README failed; above is what it printed"
fi
for expected in 'water-the-plants .*Rejected' 'refused, as it should be' 'unknown variable "tsak"' 'outputDigest' \
  'approved, by rita' 'stands in it at its place' '"state":"Completed"'; do
  grep -qE "$expected" "$log" || die "the README's commands did not print: $expected"
done
rm -f "$log"
echo "the $blocks blocks of the README ran, $(grep -cE '^(kubectl|helm)' <<<"$script") commands"
