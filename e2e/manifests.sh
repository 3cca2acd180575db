#!/usr/bin/env bash
# Every manifest that we ship, against a real API server: the charts with each kind of values, and the samples.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster/lib.sh"

ROOT=$(cd "$CLUSTER_DIR/../.." && pwd)
KUBECONFIG=$(kubeconfig)
export KUBECONFIG
DIGEST=sha256:$(printf '0%.0s' {1..64})
chart=$ROOT/charts/countersign
given=(--set "runner.image=r/runner@$DIGEST")

checked=0
# valid FILE: the API server takes every object in it, unknown fields and all.
valid() {
  kubectl apply --dry-run=server --server-side --force-conflicts --validate=strict -n default -f "$1" >/dev/null
  checked=$((checked + $(grep -c '^kind:' "$1")))
}

# renders NAME ARGUMENTS...: the chart with these values.
renders() {
  local name=$1 out
  shift
  out=$(mktemp)
  helm template countersign "$chart" --namespace default "${given[@]}" "$@" |
    # The kinds of operators that are not installed here are left to those operators.
    awk -v RS='---\n' -v ORS='---\n' '!/apiVersion: (cert-manager.io|monitoring.coreos.com)/' >"$out"
  valid "$out"
  rm -f "$out"
  echo "the chart renders and is valid: $name"
}

# refuses EXPECTED ARGUMENTS...: these values get an error that says so.
refuses() {
  local expected=$1 output
  shift
  if output=$(helm template countersign "$chart" "$@" 2>&1); then die "these values were accepted: $*"; fi
  grep -qF -- "$expected" <<<"$output" || die "expected '$expected' in: $output"
}

helm lint --strict "$ROOT/charts/countersign-crds" >/dev/null
helm lint --strict "$chart" "${given[@]}" --set postgres.existingSecret=x >/dev/null

renders "an existing Secret" --set postgres.existingSecret=x
renders "the bundled PostgreSQL" --set postgres.bundled.enabled=true
renders "cert-manager" --set postgres.existingSecret=x --set certManager.enabled=true --set serviceMonitor.enabled=true
renders "bare" --set postgres.existingSecret=x --set starter.enabled=false --set rbac.userRoles=false \
  --set networkPolicy.enabled=false --set podDisruptionBudget.enabled=false
renders "a broker with credentials" --set postgres.existingSecret=x --set 'broker.secrets={price-api,mail}' \
  --set broker.trustedCA.secret=roots --set 'broker.refusedCIDRs={203.0.113.0/24}'
renders "a witness of the log" --set postgres.existingSecret=x --set 'witnesses[0].url=https://witness.example.com' \
  --set 'witnesses[0].key=witness.example.com/w1+00000000+BAAA'
signer=$(mktemp)
cat >"$signer" <<'YAML'
signer:
  enabled: true
  networks:
    - {name: main, type: Ethereum, url: "https://rpc.example.com", chainId: 1, router: "0x0000000000000000000000000000000000000001",
       account: "0x0000000000000000000000000000000000000002",
       maxFeePerGas: "50", secret: main-account, limits: [{decimals: 18, perPayment: "1", daily: "5"}], anchors: {intervalSeconds: 600}}
    - {name: stamps, type: Timestamp, url: "http://tsa.example.com:8080/", roots: "PEM", anchors: {intervalSeconds: 600}}
    - {name: qubic, type: Qubic, url: "https://rpc.example.org", secret: seed, secretKey: letters, anchors: {intervalSeconds: 600}}
YAML
renders "a signer" --set postgres.bundled.enabled=true --set serviceMonitor.enabled=true --values "$signer"
renders "no broker" --set postgres.existingSecret=x --set broker.enabled=false
renders "alerts to a webhook" --set postgres.existingSecret=x --set alerts.webhook.url=https://hooks.example.com/x \
  --set alerts.webhook.secret=budget-alerts

refuses "postgres: set existingSecret to a Secret" "${given[@]}"
refuses "/alerts/webhook/secret" "${given[@]}" --set postgres.existingSecret=x --set alerts.webhook.url=https://hooks.example.com/x
refuses "set broker.enabled" "${given[@]}" --set postgres.existingSecret=x --values "$signer" --set broker.enabled=false
refuses "set signer.enabled" "${given[@]}" --set postgres.existingSecret=x --values "$signer" --set signer.enabled=false
refuses "signer.networks.main.secret" "${given[@]}" --set postgres.existingSecret=x --values "$signer" --set 'signer.networks[0].name=main' \
  --set 'signer.networks[0].type=Ethereum' --set 'signer.networks[0].url=https://rpc.example.com' --set 'signer.networks[0].secret='
refuses "/signer/networks/0" "${given[@]}" --set postgres.existingSecret=x --set signer.enabled=true --set 'signer.networks[0].name=A'
refuses "not both" "${given[@]}" --set postgres.existingSecret=x --set postgres.bundled.enabled=true
refuses "runner/image" --set postgres.existingSecret=x --set runner.image=r/runner:latest
refuses "replicas" "${given[@]}" --set postgres.existingSecret=x --set replicas=0
refuses "refusedCIDRs" "${given[@]}" --set postgres.existingSecret=x --set 'broker.refusedCIDRs={here}'
refuses "surprise" "${given[@]}" --set postgres.existingSecret=x --set surprise=1

for file in "$ROOT"/config/{samples,samples/budgets,samples/chain,samples/transfer,gitops/policies,gitops/tasks}/*.yaml; do valid "$file"; done
echo "$checked objects are valid"
