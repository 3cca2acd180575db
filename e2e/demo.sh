#!/usr/bin/env bash
# The main job, for people to watch: a Task reads a wallet on a real chain from sandboxed pods; a transaction takes it
# below its threshold; the alarm waits for a signature, gets one, and reaches a real receiver; and the same hashes are in
# the status and in PostgreSQL.
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


outside() { "$ROOT/e2e/outside/outside.sh" "$@"; }
# The treasury's key and another's are two of those that every such node begins with.
TREASURY=0x70997970C51812dc3A010C7d01b50e0d17dc79C8
ELSEWHERE=0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC
# balance WEI: what the treasury holds from here on; only the node of a test chain can be told so.
balance() { outside rpc anvil_setBalance "[\"$TREASURY\", \"$1\"]" >/dev/null; }

title "1. A Task, with kubectl: watch a wallet on a chain"
kubectl delete namespace "$NAMESPACE" --ignore-not-found --wait >/dev/null
kubectl create namespace "$NAMESPACE" >/dev/null
kubectl label namespace "$NAMESPACE" pod-security.kubernetes.io/enforce=restricted >/dev/null
show kubectl apply -f "$ROOT/config/samples/chain/skills.yaml"
show kubectl -n "$NAMESPACE" apply -f "$ROOT/config/samples/chain/limits.yaml" -f "$ROOT/config/samples/chain/plan.yaml"
balance 0x308b8f19700a4e0000 # 895.5 ETH
show kubectl -n "$NAMESPACE" apply -f "$ROOT/config/samples/chain/task.yaml"
# Whoever asks never signs, so somebody else has to be there.
kubectl -n "$NAMESPACE" create rolebinding rita --clusterrole=countersign-approver --user=rita >/dev/null
rita=$("$CLUSTER_DIR/user.sh" rita)

title "2. The balance is read through the broker; it is above the threshold, so nobody need be told"
telling "waiting for its steps (about 20 s)" \
  kubectl -n "$NAMESPACE" wait task/watch-wallet --for=condition=Succeeded --timeout=180s >/dev/null
show kubectl -n "$NAMESPACE" get tasks
uid=$(kubectl -n "$NAMESPACE" get task watch-wallet -o 'jsonpath={.metadata.uid}')
records -c "select c.method, c.url, c.outcome, c.status, c.address, c.received as bytes
            from calls c join attempts a on a.key = c.attempt where a.task_uid = '$uid' order by c.begun_at"

title "3. Somebody moves 400 ETH: a real transaction, in a real block"
hash=$(outside rpc eth_sendTransaction "[{\"from\": \"$TREASURY\", \"to\": \"$ELSEWHERE\", \"value\": \"0x15af1d78b58c400000\"}]")
outside rpc eth_getTransactionReceipt "[\"$hash\"]" | jq -c '{transactionHash, blockNumber, from, to, status}'
kubectl -n "$NAMESPACE" delete task watch-wallet >/dev/null
# The same request would show how it ended the first time: another run is asked for by name.
kubectl patch --local -f "$ROOT/config/samples/chain/task.yaml" --type merge -p '{"spec": {"runId": "after-the-transfer"}}' \
  -o yaml | show kubectl -n "$NAMESPACE" apply -f -

title "4. Below the threshold: the alarm waits for a signature, as it leaves the cluster"
waiting='jsonpath={.status.conditions[?(@.type=="Succeeded")].reason}=WaitingApproval'
telling "waiting for the steps before it (about 20 s)" \
  kubectl -n "$NAMESPACE" wait task/watch-wallet --for="$waiting" --timeout=180s >/dev/null
show kubectl -n "$NAMESPACE" get tasks,approvals
approval=$(kubectl -n "$NAMESPACE" get approvals -o 'jsonpath={.items[0].metadata.name}')
show kubectl -n "$NAMESPACE" get approval "$approval" -o 'jsonpath={.spec.subject}{"\n"}{.spec.digest}{"\n"}'

title "5. Whoever asked never signs; somebody else does"
patch='{"spec":{"approved":true,"reason":"checked the block"}}'
if show kubectl -n "$NAMESPACE" patch approval "$approval" --type merge -p "$patch"; then
  die "the requester could sign"
fi
show kubectl --kubeconfig "$rita" -n "$NAMESPACE" patch approval "$approval" --type merge -p "$patch"
show kubectl -n "$NAMESPACE" get approval "$approval" -o 'jsonpath={.spec.decisions}{"\n"}'
show kubectl -n "$NAMESPACE" get events --field-selector "involvedObject.name=$approval"

title "6. Completed, and the receiver has it, with the broker's signature, which it checked"
telling "waiting for the last step (about 8 s)" \
  kubectl -n "$NAMESPACE" wait task/watch-wallet --for=condition=Succeeded --timeout=180s >/dev/null
show kubectl -n "$NAMESPACE" get tasks
uid=$(kubectl -n "$NAMESPACE" get task watch-wallet -o 'jsonpath={.metadata.uid}')
alarm=$(outside alarms | jq -c 'select(.alarm.type == "wallet.low")' | tail -1)
[[ -n $alarm ]] || die "the receiver got no alarm"
printf '%s\n' "$alarm"

title "7. The hashes, from the status"
steps='{range .status.steps[*]}{.name}{"\t"}{.state}{"\t"}{.inputDigest}{"\t"}{.outputDigest}{"\n"}{end}'
from_status=$(kubectl -n "$NAMESPACE" get task watch-wallet -o "jsonpath=$steps")
printf '%s\n' "$from_status"

title "8. The same hashes, from PostgreSQL"
query="select step, outcome, input_digest, output_digest from step_overview where task_uid = '$uid' order by position"
from_record=$(records -At -F $'\t' -c "$query")
printf '%s\n' "$from_record"
[[ $from_status == "$from_record" ]] || die "the status and the record differ"
echo "They are the same."

title "9. What was recorded, in order"
records -c "select to_char(at, 'HH24:MI:SS.MS') as at, kind, coalesce(body->>'step', body->>'name') as about
            from audit where task_uid = '$uid' order by seq"

title "Done in $((SECONDS - started)) s. The cluster stays up; look around:"
cat <<TEXT
  export KUBECONFIG=$KUBECONFIG PATH=$BIN:\$PATH
  kubectl -n $NAMESPACE describe task watch-wallet
  kubectl -n $NAMESPACE get ctask,cplan,capp,jobs,pods
  kubectl -n $NAMESPACE apply -f config/samples/generic.yaml        # denied by the starter Policy, with the reason
  kubectl -n countersign-system logs deployment/countersign
Remove it all with: make clean-demo
TEXT
