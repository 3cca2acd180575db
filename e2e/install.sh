#!/usr/bin/env bash
# Builds the operator, the broker, the signer and the runner, gives their images to the cluster that up.sh brought up, and installs
# the charts with Helm. Can be run again: it upgrades. PROFILE=release builds optimised binaries.
#   install.sh [HELM ARGUMENTS...]
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster/lib.sh"

ROOT=$(cd "$CLUSTER_DIR/../.." && pwd)
NAMESPACE=countersign-system
PROFILE=${PROFILE:-dev}
KUBECONFIG=$(kubeconfig)
export KUBECONFIG

folder() { if [[ $PROFILE == dev ]]; then echo debug; else echo "$PROFILE"; fi; }

# image PACKAGE BINARY CONTAINERFILE: prints the reference of an image with that binary.
image() {
  local context=$STATE/context/$2
  mkdir -p "$context"
  strip -o "$context/$2" "$ROOT/target/$TARGET/$(folder)/$2"
  "$CLUSTER_DIR/image.sh" "$1" "$ROOT/$3" "$context"
}

TARGET=$(rustc -vV | sed -n 's/^host: //p')
cd "$ROOT"
quietly "building the operator, the broker, the signer, the runner and kubectl's plugin (about 10 min cold, seconds warm)" \
  cargo build --profile "$PROFILE" --workspace --bins
mkdir -p "$BIN"
for binary in kubectl-countersign countersign-witness countersign-signer; do
  ln -sfn "$ROOT/target/$TARGET/$(folder)/$binary" "$BIN/$binary"
done
runner=$(image runner countersign-runner runner-image/Containerfile)
operator=$(image operator countersign operator/Containerfile)
broker=$(image broker countersign-broker operator/broker/Containerfile)
signer=$(image signer countersign-signer operator/chain/Containerfile)

"$ROOT/e2e/outside/outside.sh" start
mapfile -t outside < <("$ROOT/e2e/outside/outside.sh" settings)
postgres=(--set postgres.bundled.enabled=true)
if [[ $(flavour) == local ]]; then
  "$CLUSTER_DIR/postgres.sh" start
  kubectl get namespace "$NAMESPACE" >/dev/null 2>&1 || kubectl create namespace "$NAMESPACE" >&2
  kubectl -n "$NAMESPACE" create secret generic countersign-database \
    --from-literal "url=$("$CLUSTER_DIR/postgres.sh" operator-url)" \
    --from-literal "brokerUrl=$("$CLUSTER_DIR/postgres.sh" broker-url)" \
    --from-literal "signerUrl=$("$CLUSTER_DIR/postgres.sh" signer-url)" \
    --from-literal "ownerUrl=$("$CLUSTER_DIR/postgres.sh" url)" --dry-run=client -o yaml | kubectl apply -f - >&2
  postgres=(--set postgres.existingSecret=countersign-database)
fi

say "installing the charts (about 20 s)"
helm upgrade --install countersign-crds "$ROOT/charts/countersign-crds" -n "$NAMESPACE" --create-namespace --wait >&2
kubectl wait --for=condition=Established --timeout=60s >/dev/null \
  crd/{tasks,plans,policies,approvals,skills,agents}.countersign.dev
settings=("${postgres[@]}" "${outside[@]}" --set "runner.image=$runner" --set "image.repository=${operator%@*}"
  --set "image.digest=${operator#*@}" --set "broker.image.repository=${broker%@*}"
  --set "broker.image.digest=${broker#*@}" --set broker.replicas=1
  --set "signer.image.repository=${signer%@*}" --set "signer.image.digest=${signer#*@}" "$@")
telling "installing the chart and waiting until it is ready" \
  helm upgrade --install countersign "$ROOT/charts/countersign" -n "$NAMESPACE" "${settings[@]}" --wait --timeout 3m >&2
if [[ $(flavour) == local ]]; then
  # The log has its key by now, or in a moment.
  wait_for 60 "the log's key" "$ROOT/e2e/outside/outside.sh" witness
fi
say "installed"
