#!/usr/bin/env bash
# The figures of e2e/BENCHMARKS.md: one replica, optimised, on the local cluster, with a node that says of every pod
# at once that it succeeded (so that what is measured is the operator and the control plane); then what the log
# costs, beside the two obvious designs. About 20 min.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster/lib.sh"

ROOT=$(cd "$CLUSTER_DIR/../.." && pwd)
TASKS=${TASKS:-1500}
HELD=${HELD:-3500}
STEPS=${STEPS:-2000}
# Its own each time, as the record keeps the Tasks of the last one.
NS=bench-$(date +%s)
[[ $(flavour) == local ]] || die "the benchmark needs the local cluster; unset COUNTERSIGN_CLUSTER"

"$CLUSTER_DIR/up.sh" >/dev/null
KUBECONFIG=$(kubeconfig)
export KUBECONFIG
PROFILE=release "$ROOT/e2e/install.sh" --set replicas=1 --set sandbox.jobTtlSeconds=60 --set log=warn
say "building the fake kubelet"
(cd "$ROOT" && cargo build --quiet --release -p countersign-e2e --features bench --bin fake-kubelet)
target=$(rustc -vV | sed -n 's/^host: //p')

node=$(kubectl get nodes -o 'jsonpath={.items[0].metadata.name}')
finish() {
  stop fake-kubelet 5
  kubectl uncordon "$node" >/dev/null
  kubectl delete node fake --ignore-not-found >/dev/null
  kubectl delete namespace "$NS" --ignore-not-found --wait=false >/dev/null
}
trap finish EXIT
kubectl create namespace "$NS" >/dev/null
kubectl cordon "$node" >/dev/null
spawn fake-kubelet "$ROOT/target/$target/release/fake-kubelet"
wait_for 30 "the fake node" kubectl get node fake

sql() { "$CLUSTER_DIR/postgres.sh" psql -At -c "$1"; }
completed() { sql "select count(*) from tasks where namespace = '$NS' and outcome = 'Completed' and name like '$1-%'"; }
# Writes that the API server has served, but for heartbeats and elections.
cluster_writes() {
  kubectl get --raw /metrics |
    awk '/^apiserver_request_total{/ && /verb="(POST|PUT|PATCH|APPLY|DELETE)"/ && !/resource="(leases|nodes|tokenreviews|subjectaccessreviews)"/ {n += $NF} END {printf "%d\n", n}'
}
# Actions of the operator, each of which is one write.
operator_writes() {
  local pod
  pod=$(kubectl -n countersign-system get pods -l app.kubernetes.io/name=countersign -o 'jsonpath={.items[0].status.podIP}')
  curl -fsS --noproxy '*' "http://$pod:8080/metrics" |
    awk '/^countersign_actions_total{/ {n += $2; if (/kind="admit_pod"/) n += $2} END {printf "%d\n", n}'
}
# The same by kind, for whoever looks into a figure.
operator_actions() {
  local pod
  pod=$(kubectl -n countersign-system get pods -l app.kubernetes.io/name=countersign -o 'jsonpath={.items[0].status.podIP}')
  curl -fsS --noproxy '*' "http://$pod:8080/metrics" | grep -E '^countersign_(actions_total|reconcile_seconds_count)' >&2
}
# operator_memory FIELD: workingSetBytes, or the time at which the kubelet took it.
operator_memory() {
  kubectl get --raw "/api/v1/nodes/$node/proxy/stats/summary" |
    jq -r "[.pods[] | select(.podRef.namespace == \"countersign-system\") | .containers[] | select(.name == \"operator\") | .memory.$1] | max"
}
# The fake answer is {}, which the starter Skill's contract would refuse.
kubectl apply -f - >/dev/null <<'YAML'
apiVersion: countersign.dev/v1alpha1
kind: Skill
metadata: {name: bench}
spec: {effect: Read, idempotent: true, builtin: {name: generic_action}}
YAML
tasks() { # NAME COUNT SUSPEND
  jq -cn --arg name "$1" --argjson count "$2" --argjson suspend "$3" 'range($count) | {apiVersion: "countersign.dev/v1alpha1",
    kind: "Task", metadata: {name: "\($name)-\(.)"}, spec: {suspend: $suspend, plan: {steps: [{name: "only", skill: "bench"}]}}}'
}

say "warming up"
tasks warm 50 false | kubectl -n "$NS" create -f - >/dev/null
all_done() { [[ $(completed "$1") == "$2" ]]; }
wait_for 120 "the warm-up" all_done warm 50

say "$TASKS Tasks of one step"
writes=$(cluster_writes) own=$(operator_writes) start=$(date +%s%N)
tasks one "$TASKS" false | kubectl -n "$NS" create -f - >/dev/null
created=$(date +%s%N)
wait_for 900 "the Tasks" all_done one "$TASKS"
seconds=$(sql "select extract(epoch from max(finished_at) - min(adopted_at)) from tasks where namespace = '$NS' and name like 'one-%'")
one_rate=$(awk "BEGIN {printf \"%.1f\", $TASKS / $seconds}")
one_own=$(awk "BEGIN {printf \"%.1f\", ($(operator_writes) - $own) / $TASKS}")
one_all=$(awk "BEGIN {printf \"%.1f\", ($(cluster_writes) - $writes) / $TASKS}")
say "created in $(((created - start) / 1000000)) ms, done in $seconds s: $one_rate a second"

operator_actions
say "one Task of $STEPS steps"
writes=$(cluster_writes) own=$(operator_writes)
jq -cn --argjson steps "$STEPS" '{apiVersion: "countersign.dev/v1alpha1", kind: "Task", metadata: {name: "wide-0"}, spec: {plan: {parallelism: 100,
  steps: [range($steps) | {name: "s\(.)", skill: "bench", needs: (if . >= 100 then ["s\(. - 100)"] else [] end)}]}}}' |
  kubectl -n "$NS" create -f - >/dev/null
wait_for 900 "the Plan" all_done wide 1
wide_seconds=$(sql "select round(extract(epoch from finished_at - adopted_at)) from tasks where namespace = '$NS' and name = 'wide-0'")
wide_bytes=$(kubectl -n "$NS" get task wide-0 -o json | jq -c .status | wc -c)
wide_own=$(awk "BEGIN {printf \"%.1f\", ($(operator_writes) - $own) / $STEPS}")
wide_all=$(awk "BEGIN {printf \"%.1f\", ($(cluster_writes) - $writes) / $STEPS}")

say "$HELD more Tasks, suspended, to fill the caches"
tasks held "$HELD" true | kubectl -n "$NS" create -f - >/dev/null
all_held() { [[ $(sql "select count(*) from tasks where namespace = '$NS' and name like 'held-%'") == "$HELD" ]]; }
wait_for 600 "the suspended Tasks" all_held
# The kubelet's figures are up to 20 s old.
before=$(operator_memory time)
fresh() { local time && time=$(operator_memory time) && [[ $time != "$before" ]]; }
wait_for 60 "a fresh figure of memory" fresh
memory=$(($(operator_memory workingSetBytes) / 1048576))

cat <<TABLE
| what | measured | aim |
|---|---|---|
| one-step Tasks a second, sustained over $TASKS | $one_rate | at least 14 |
| API writes a step by the operator, Plan of $STEPS steps | $wide_own | at most 4 |
| API writes a Task by the operator, one-step Tasks (with its Plan and both statuses) | $one_own | |
| API writes a step cluster-wide, Plan of $STEPS steps | $wide_all | at most 25 |
| API writes a Task cluster-wide, one-step Tasks | $one_all | at most 25 |
| time of a Plan of $STEPS steps, 100 at once | $wide_seconds s | |
| bytes of status of that Task | $wide_bytes | at most 262,144 |
| memory of the operator with $((50 + TASKS + 1 + HELD)) Tasks | $memory MiB | at most 150 MiB |
TABLE

say "the log: entries a second, sequencing, proofs, verification (about 2 min, and 4 to build)"
COUNTERSIGN_TEST_DATABASE_URL=$("$CLUSTER_DIR/postgres.sh" local-url) cargo bench --quiet -p countersign-cli --bench log
COUNTERSIGN_TEST_DATABASE_URL=$("$CLUSTER_DIR/postgres.sh" local-url) cargo bench --quiet -p countersign-store --bench budget
cargo bench --quiet -p countersign-core --bench simulation
say "payments, anchors, and a restart with 10,000 in the outbox (about 4 min)"
COUNTERSIGN_TEST_NODE=$("$CLUSTER_DIR/../node/install.sh")
export COUNTERSIGN_TEST_NODE
COUNTERSIGN_TEST_DATABASE_URL=$("$CLUSTER_DIR/postgres.sh" local-url) cargo bench --quiet -p countersign-chain --bench outbox
