#!/usr/bin/env bash
# Runs every command of the README, in order, as a reader would: the blocks marked sh, in one shell. (`make demo`,
# `make clean-demo` and `make test` are run by e2e/test.sh.)
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster/lib.sh"

cd "$CLUSTER_DIR/../.."
KUBECONFIG=$(kubeconfig)
export KUBECONFIG
# deployed DEPLOYMENT PATH: something of its first container.
deployed() {
  kubectl -n countersign-system get deployment "$1" -o "jsonpath={.spec.template.spec.containers[0]$2}"
}
RUNNER_IMAGE=$(deployed countersign '.env[?(@.name=="COUNTERSIGN_RUNNER_IMAGE")].value')
image=$(deployed countersign .image) broker=$(deployed countersign-broker .image)
IMAGE=${image%@*} IMAGE_DIGEST=${image#*@}
BROKER_IMAGE=${broker%@*} BROKER_IMAGE_DIGEST=${broker#*@}
database() { kubectl -n countersign-system get secret countersign-database -o "jsonpath={.data.$1}" | base64 -d; }
DATABASE_URL=$(database url)
DATABASE_OWNER_URL=$(database ownerUrl)
DATABASE_BROKER_URL=$(database brokerUrl)
export RUNNER_IMAGE IMAGE IMAGE_DIGEST BROKER_IMAGE BROKER_IMAGE_DIGEST
export DATABASE_URL DATABASE_OWNER_URL DATABASE_BROKER_URL

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
