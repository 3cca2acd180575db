#!/usr/bin/env bash
# The main job, for people to watch: a Task is applied, judged, waits for a signature, gets one, runs in
# sandboxed pods, and leaves the same hashes in its status and in PostgreSQL.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster/lib.sh"

ROOT=$(cd "$CLUSTER_DIR/../.." && pwd)
NAMESPACE=countersign-demo
started=$SECONDS

title() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# Shows a command as a person would type it, and runs it.
show() {
  printf '$ %s\n' "$*"
  "$@"
}
records() {
  if [[ $(flavour) == local ]]; then
    "$CLUSTER_DIR/postgres.sh" psql "$@"
  else
    kubectl -n countersign-system exec countersign-postgres-0 -- psql -U countersign -X "$@"
  fi
}

"$CLUSTER_DIR/up.sh" >/dev/null
KUBECONFIG=$(kubeconfig)
export KUBECONFIG
"$ROOT/e2e/install.sh"

title "1. A Task, with kubectl"
kubectl delete namespace "$NAMESPACE" --ignore-not-found --wait >/dev/null
kubectl create namespace "$NAMESPACE" >/dev/null
kubectl label namespace "$NAMESPACE" pod-security.kubernetes.io/enforce=restricted >/dev/null
show kubectl -n "$NAMESPACE" apply -f "$ROOT/config/samples/monitor-wallet.yaml"
# Whoever asks never signs, so somebody else has to be there.
kubectl -n "$NAMESPACE" create rolebinding rita --clusterrole=countersign-approver --user=rita >/dev/null
rita=$("$CLUSTER_DIR/user.sh" rita)

title "2. Two steps run; the third waits for a signature"
say "waiting for the first steps (about 15 s)"
waiting='jsonpath={.status.conditions[?(@.type=="Succeeded")].reason}=WaitingApproval'
kubectl -n "$NAMESPACE" wait task/monitor-wallet --for="$waiting" --timeout=180s >/dev/null
show kubectl -n "$NAMESPACE" get tasks,approvals
approval=$(kubectl -n "$NAMESPACE" get approvals -o 'jsonpath={.items[0].metadata.name}')
show kubectl -n "$NAMESPACE" get approval "$approval" -o 'jsonpath={.spec.subject}{"\n"}{.spec.digest}{"\n"}'

title "3. Whoever asked never signs; somebody else does"
patch='{"spec":{"approved":true,"reason":"checked the numbers"}}'
if show kubectl -n "$NAMESPACE" patch approval "$approval" --type merge -p "$patch"; then
  die "the requester could sign"
fi
show kubectl --kubeconfig "$rita" -n "$NAMESPACE" patch approval "$approval" --type merge -p "$patch"
show kubectl -n "$NAMESPACE" get approval "$approval" -o 'jsonpath={.spec.decisions}{"\n"}'
show kubectl -n "$NAMESPACE" get events --field-selector "involvedObject.name=$approval"

title "4. Completed"
say "waiting for the last step (about 8 s)"
kubectl -n "$NAMESPACE" wait task/monitor-wallet --for=condition=Succeeded --timeout=180s >/dev/null
show kubectl -n "$NAMESPACE" get tasks

title "5. The hashes, from the status"
steps='{range .status.steps[*]}{.name}{"\t"}{.state}{"\t"}{.inputDigest}{"\t"}{.outputDigest}{"\n"}{end}'
from_status=$(kubectl -n "$NAMESPACE" get task monitor-wallet -o "jsonpath=$steps")
printf '%s\n' "$from_status"

title "6. The same hashes, from PostgreSQL"
uid=$(kubectl -n "$NAMESPACE" get task monitor-wallet -o 'jsonpath={.metadata.uid}')
query="select step, outcome, input_digest, output_digest from step_overview where task_uid = '$uid' order by position"
from_record=$(records -At -F $'\t' -c "$query")
printf '%s\n' "$from_record"
[[ $from_status == "$from_record" ]] || die "the status and the record differ"
echo "They are the same."

title "7. What was recorded, in order"
records -c "select to_char(at, 'HH24:MI:SS.MS') as at, kind, coalesce(body->>'step', body->>'name') as about
            from audit where task_uid = '$uid' order by seq"

title "Done in $((SECONDS - started)) s. The cluster stays up; look around:"
cat <<TEXT
  export KUBECONFIG=$KUBECONFIG PATH=$BIN:\$PATH
  kubectl -n $NAMESPACE describe task monitor-wallet
  kubectl -n $NAMESPACE get ctask,cplan,capp,jobs,pods
  kubectl -n $NAMESPACE apply -f config/samples/generic.yaml        # denied by the starter Policy, with the reason
  kubectl -n countersign-system logs deployment/countersign
Remove it all with: make clean-demo
TEXT
