#!/usr/bin/env bash
# Everything that must hold. Installs and builds what it needs, says every five seconds what it is at, and at its end how
# long each part took. Can be run again.
#
# What only computes runs beside what waits for a cluster, with less of the processors: where the two would disturb
# each other, as what kills PostgreSQL would, they take their turns.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster/lib.sh"

ROOT=$(cd "$CLUSTER_DIR/../.." && pwd)
cd "$ROOT"
export PATH=$CACHE/tools/bin:$PATH
started=$SECONDS
LOGS=$(mktemp -d)
# The cluster's tests by what they may run beside. What is not named runs with all the others.
PAYMENTS=(payments::)
WITNESS=(witness::)
GITOPS=(gitops::)
GVISOR=(gvisor::)
DISRUPTION=(guard:: disruption:: network::)

# part NAME COMMAND...
part() {
  local name=$1 start=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  telling "$name" "$@"
  took "$name" "$((SECONDS - start))"
}
took() { printf '%6d s  %s\n' "$2" "$1" >>"$LOGS/table"; }

# beside NAME COMMAND...: starts a program that goes on while others do, fifty minutes at most; `together` waits for it.
BESIDE=
beside() {
  local name=$1
  shift
  printf '\n== %s: begun, beside what follows\n' "$name"
  BESIDE_NAME=$name BESIDE_START=$SECONDS
  # It ends what it has started, should it be ended itself.
  timeout 3000 nice -n 10 "$@" >"$LOGS/beside" 2>&1 &
  BESIDE=$!
}
together() {
  local code=0
  wait_for 3000 "$BESIDE_NAME" ended "$BESIDE"
  wait "$BESIDE" || code=$?
  BESIDE=
  printf '\n== %s, begun beside the others\n' "$BESIDE_NAME"
  cat "$LOGS/beside"
  took "$BESIDE_NAME, beside the others" "$((SECONDS - BESIDE_START))"
  ((code == 0)) || die "$BESIDE_NAME failed; above is what was printed"
}
ended() { ! kill -0 "$1" 2>/dev/null; }
finish() {
  if [[ -n $BESIDE ]]; then kill "$BESIDE"; fi
  rm -rf "$LOGS"
}
trap finish EXIT

tools() {
  "$CLUSTER_DIR/build.sh" all
  if [[ $(flavour) == local ]]; then
    "$CLUSTER_DIR/build.sh" gitops
    "$CLUSTER_DIR/build.sh" gvisor
  fi
  if ! command -v cargo-deny >/dev/null; then
    say "installing cargo-deny (about 2 min, once)"
    # From elsewhere, so that this workspace's build settings do not apply to it.
    (cd / && cargo install --quiet --debug --locked --root "$CACHE/tools" cargo-deny@0.20.2)
  fi
  e2e/dependencies.sh restore
  # What an earlier run left would be tested instead of this.
  make --no-print-directory clean-demo
  "$CLUSTER_DIR/postgres.sh" start
  COUNTERSIGN_TEST_NODE=$(e2e/node/install.sh)
  COUNTERSIGN_TEST_DATABASE_URL=$("$CLUSTER_DIR/postgres.sh" local-url)
  # For other shells than this one, as a part runs in its own.
  printf 'export COUNTERSIGN_TEST_NODE=%q COUNTERSIGN_TEST_DATABASE_URL=%q\n' "$COUNTERSIGN_TEST_NODE" "$COUNTERSIGN_TEST_DATABASE_URL" >"$LOGS/env"
}

style() {
  cargo fmt --all --check
  shellcheck --external-sources --source-path=SCRIPTDIR e2e/*.sh e2e/cluster/*.sh e2e/node/*.sh e2e/outside/*.sh operator/store/prepare.sh .ci/run
  cargo deny --log-level error check bans licenses sources
  # What checks the code checks the queries as well.
  DATABASE_URL=$COUNTERSIGN_TEST_DATABASE_URL operator/store/prepare.sh --check \
    cargo clippy --quiet --workspace --all-targets --test '*' --all-features -- -D warnings
}

compile() {
  quietly "compiling the programs and the tests (about 10 min cold, 3 min with compiled dependencies)" \
    cargo test --workspace --no-run
  quietly "compiling the tests of the cluster" cargo test --workspace --test cluster --no-run
  cargo run --quiet --bin crdgen -- --check
  e2e/dependencies.sh save
}

demo() { make --no-print-directory demo; }
transfer() { make --no-print-directory demo-transfer; }

# on_cluster ARGUMENTS...: tests of the cluster.
on_cluster() {
  KUBECONFIG=$(kubeconfig)
  export KUBECONFIG
  cargo test --quiet --workspace --test cluster -- "$@"
}

users() {
  local skipped=() module
  for module in "${PAYMENTS[@]}" "${WITNESS[@]}" "${GITOPS[@]}" "${GVISOR[@]}" "${DISRUPTION[@]}"; do skipped+=(--skip "$module"); done
  on_cluster --test-threads 6 "${skipped[@]}"
  # By themselves, as they kill the broker and the signer.
  on_cluster --test-threads 4 "${PAYMENTS[@]}"
  # By itself, as no other test may change the log's key meanwhile.
  on_cluster "${WITNESS[@]}"
}

gitops() {
  # The controllers run beside the local cluster; elsewhere they would need images, which no registry is asked for.
  if [[ $(flavour) != local ]]; then
    echo "skipped: Flux runs beside the local cluster only"
    return
  fi
  on_cluster "${GITOPS[@]}"
}
gvisor() { on_cluster --nocapture "${GVISOR[@]}"; }
disruption() {
  # The unit tests have made tens of thousands of files, which are not to be recovered when PostgreSQL is killed.
  if [[ $(flavour) == local ]]; then "$CLUSTER_DIR/postgres.sh" checkpoint; fi
  on_cluster --nocapture --test-threads 1 "${DISRUPTION[@]}"
}

part "tools" tools
# shellcheck disable=SC1091
source "$LOGS/env"
part "style" style
part "compiling" compile
part "the demo, from nothing" demo
beside "unit, property and simulation tests" cargo test --quiet --workspace
part "a transfer" transfer
part "manifests" e2e/manifests.sh
part "what users do, on the cluster" users
part "the commands of the README" e2e/readme.sh
part "from a Git repository" gitops
part "in gVisor" gvisor
together
part "what is killed, stopped and deleted" disruption
printf '\n== all that must hold, holds\n'
cat "$LOGS/table"
printf '%6d s  all of it\n' "$((SECONDS - started))"
