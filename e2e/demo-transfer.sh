#!/usr/bin/env bash
# Money leaves, once: a Task moves 2 ETH on a real chain. The balance is read and judged, two people sign, the signer
# pays through the router, the receipt goes into the record, the record's checkpoint is anchored on the chain and stamped
# by an authority, and what was exported is verified without cluster, database or chain.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster/lib.sh"

ROOT=$(cd "$CLUSTER_DIR/../.." && pwd)
NAMESPACE=countersign-transfer
PAYEE=0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC
WORK=$STATE/transfer
started=$SECONDS

title() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# Shows a command as a person would type it, and runs it.
show() {
  printf '$ %s\n' "$*"
  "$@"
}
outside() { "$ROOT/e2e/outside/outside.sh" "$@"; }
# In ETH.
holds() { node -p 'Number(BigInt(process.argv[1]) / 10n ** 12n) / 1e6' "$(outside rpc eth_getBalance "[\"$1\", \"latest\"]")"; }

"$CLUSTER_DIR/up.sh" >/dev/null
KUBECONFIG=$(kubeconfig)
export KUBECONFIG
"$ROOT/e2e/install.sh"
rm -rf "$WORK"
mkdir -p "$WORK"
PAYER=$(outside payer)

title "1. A Task, with kubectl: pay 2 ETH, if 10 stay"
kubectl delete namespace "$NAMESPACE" --ignore-not-found --wait >/dev/null
kubectl create namespace "$NAMESPACE" >/dev/null
kubectl label namespace "$NAMESPACE" pod-security.kubernetes.io/enforce=restricted >/dev/null
# What there is at the beginning; only the node of a test chain can be told so.
outside rpc anvil_setBalance "[\"$PAYER\", \"0x56bc75e2d63100000\"]" >/dev/null # 100 ETH
outside rpc anvil_setBalance "[\"$PAYEE\", \"0x0\"]" >/dev/null
show kubectl apply -f "$ROOT/config/samples/chain/skills.yaml" -f "$ROOT/config/samples/transfer/skills.yaml"
show kubectl -n "$NAMESPACE" apply -f "$ROOT/config/samples/transfer/policy.yaml" -f "$ROOT/config/samples/transfer/plan.yaml"
sed "s/from: .*/from: \"$PAYER\"/" "$ROOT/config/samples/transfer/task.yaml" >"$WORK/task.yaml"
show kubectl -n "$NAMESPACE" apply -f "$WORK/task.yaml"
for person in rita sam; do
  kubectl -n "$NAMESPACE" create rolebinding "$person" --clusterrole=countersign-approver --user="$person" >/dev/null
done
rita=$("$CLUSTER_DIR/user.sh" rita) sam=$("$CLUSTER_DIR/user.sh" sam)

# approval_of STEP: the name of its Approval.
approval_of() {
  kubectl -n "$NAMESPACE" get approvals -o json | jq -er --arg step "$1" '.items[] | select(.spec.step == $step) | .metadata.name'
}
patch='{"spec":{"approved":true,"reason":"checked the invoice"}}'

title "2. The starter Policy wants a signature for each step of a transfer; reading and judging take one"
for step in check_balance policy_check; do
  wait_for 120 "the Approval of $step" approval_of "$step"
  show kubectl --kubeconfig "$rita" -n "$NAMESPACE" patch approval "$(approval_of "$step")" --type merge -p "$patch"
done

title "3. What will be paid waits for two"
wait_for 120 "the Approval of the payment" approval_of onchain_action
approval=$(approval_of onchain_action)
show kubectl countersign -n "$NAMESPACE" explain "$approval"

title "4. One signs, and nothing moves; another signs"
show kubectl --kubeconfig "$rita" -n "$NAMESPACE" patch approval "$approval" --type merge -p "$patch"
show kubectl -n "$NAMESPACE" get approvals
[[ $(holds "$PAYEE") == 0 ]] || die "money moved after one signature"
show kubectl --kubeconfig "$sam" -n "$NAMESPACE" patch approval "$approval" --type merge -p "$patch"

title "5. Paid, once: the transaction is in the status"
telling "waiting for the chain to be final on it (about 10 s)" \
  kubectl -n "$NAMESPACE" wait task/transfer --for=condition=Succeeded --timeout=180s >/dev/null
show kubectl -n "$NAMESPACE" get task transfer -o 'jsonpath={.status.steps[2].payment}{"\n"}'
echo "the payee holds $(holds "$PAYEE") ETH, the payer $(holds "$PAYER") ETH"
[[ $(holds "$PAYEE") == 2 ]] || die "2 ETH should have been paid, once"
router=$(outside router)
paid=$(outside rpc eth_getLogs "[{\"address\": \"$router\", \"fromBlock\": \"0x0\", \"topics\": [null, null, \"$(kubectl -n "$NAMESPACE" get task transfer -o 'jsonpath={.status.steps[2].payment.id}')\"]}]" | jq length)
[[ $paid == 1 ]] || die "the router has $paid payments of this id, not one"

title "6. The record's checkpoint is anchored: on the chain, and by an authority's time stamp"
telling "waiting for an anchor that covers the last step (about 15 s)" \
  kubectl -n "$NAMESPACE" wait task/transfer --for='jsonpath={.status.steps[2].anchor}' --timeout=120s >/dev/null
show kubectl -n "$NAMESPACE" get task transfer -o 'jsonpath={range .status.steps[*]}{.name}{"\t"}{.anchor}{"\n"}{end}'

title "7. Exported with all that it takes to prove it"
kubectl -n "$NAMESPACE" create serviceaccount auditor --dry-run=client -o yaml | kubectl apply -f - >/dev/null
kubectl -n "$NAMESPACE" create rolebinding auditor --clusterrole=countersign-viewer --serviceaccount="$NAMESPACE:auditor" >/dev/null
kubectl -n "$NAMESPACE" create token auditor >"$WORK/token"
kubectl -n countersign-system port-forward service/countersign 18443:8443 >"$WORK/forward" &
forward=$!
end_forward() { if kill -0 "$forward" 2>/dev/null; then kill "$forward"; fi; }
trap end_forward EXIT
wait_for 30 "the port-forward" grep -q Forwarding "$WORK/forward"
reader=(--server https://localhost:18443 --token-file "$WORK/token" -n "$NAMESPACE")
both() { [[ $(kubectl countersign audit transfer "${reader[@]}" | grep -c 'covers all of it') == 2 ]]; }
wait_for 60 "both anchors" both
show kubectl countersign audit transfer "${reader[@]}"
show kubectl countersign export --task transfer --cosignatures 1 "${reader[@]}" -o "$WORK/export"
end_forward
outside policy >"$WORK/policy"

title "8. Verified offline: no cluster, no database, no chain"
show env -i "$BIN/kubectl-countersign" verify "$WORK/export" --policy "$WORK/policy" --tsa-roots "$(outside stamps-ca)"
title "9. And whoever asks the chain, finds these blocks in it"
show env -i "$BIN/kubectl-countersign" verify "$WORK/export" --policy "$WORK/policy" --tsa-roots "$(outside stamps-ca)" \
  --router "31337:$router" --rpc "31337=http://$(outside ip):28545" --require-anchors

title "10. One changed digit is found"
cp -r "$WORK/export" "$WORK/forged"
sed -i 's/"network":"ethereum","size":[0-9]*/&0/' "$WORK/forged/anchors.jsonl"
if env -i "$BIN/kubectl-countersign" verify "$WORK/forged" --policy "$WORK/policy" --tsa-roots "$(outside stamps-ca)"; then
  die "a forged anchor was believed"
fi

title "Done in $((SECONDS - started)) s."
