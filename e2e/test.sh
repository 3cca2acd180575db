#!/usr/bin/env bash
# Everything that must hold, from the cheapest to the dearest. Installs and builds what it needs, and says how
# long each part took. Can be run again.
set -euo pipefail
# shellcheck source=cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster/lib.sh"

ROOT=$(cd "$CLUSTER_DIR/../.." && pwd)
cd "$ROOT"
export PATH=$CACHE/tools/bin:$PATH
started=$SECONDS

part() {
  local name=$1 start=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  "$@"
  printf '== %s: %s s\n' "$name" "$((SECONDS - start))"
}

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
}

style() {
  cargo fmt --all --check
  cargo clippy --quiet --workspace --all-targets --test '*' --all-features -- -D warnings
  cargo deny --log-level error check bans licenses sources
  cargo run --quiet --bin crdgen -- --check
  shellcheck --external-sources --source-path=SCRIPTDIR e2e/*.sh e2e/cluster/*.sh e2e/node/*.sh e2e/outside/*.sh operator/store/prepare.sh .ci/run
}

units() {
  "$CLUSTER_DIR/postgres.sh" start
  COUNTERSIGN_TEST_NODE=$(e2e/node/install.sh)
  export COUNTERSIGN_TEST_NODE
  COUNTERSIGN_TEST_DATABASE_URL=$("$CLUSTER_DIR/postgres.sh" local-url)
  export COUNTERSIGN_TEST_DATABASE_URL
  cargo test --quiet --workspace
  DATABASE_URL=$COUNTERSIGN_TEST_DATABASE_URL operator/store/prepare.sh --check
}

demo() {
  make --no-print-directory clean-demo
  make --no-print-directory demo
}

transfer() {
  make --no-print-directory demo-transfer
}

cluster() {
  KUBECONFIG=$(kubeconfig)
  export KUBECONFIG
  cargo test --quiet --workspace --test cluster -- --test-threads 6 manifests:: tasks:: signing:: attacks:: log:: reading:: egress:: budgets:: simulate::
  # By themselves, as they kill the broker and the signer.
  cargo test --quiet --workspace --test cluster -- --test-threads 4 payments::
  # By itself, as no other test may change the log's key meanwhile.
  cargo test --quiet --workspace --test cluster -- witness::
}

gitops() {
  KUBECONFIG=$(kubeconfig)
  export KUBECONFIG
  # The controllers run beside the local cluster; elsewhere they would need images, which no registry is asked for.
  if [[ $(flavour) != local ]]; then
    echo "skipped: Flux runs beside the local cluster only"
    return
  fi
  cargo test --quiet --workspace --test cluster -- gitops::
}

gvisor() {
  KUBECONFIG=$(kubeconfig)
  export KUBECONFIG
  cargo test --quiet --workspace --test cluster -- --nocapture gvisor::
}

disruption() {
  KUBECONFIG=$(kubeconfig)
  export KUBECONFIG
  cargo test --quiet --workspace --test cluster -- --nocapture --test-threads 1 guard:: disruption:: network::
}

part "tools" tools
part "style" style
part "unit, property and simulation tests" units
part "the demo, from nothing" demo
part "a transfer" transfer
part "manifests" e2e/manifests.sh
part "what users do, on the cluster" cluster
part "the commands of the README" e2e/readme.sh
part "from a Git repository" gitops
part "in gVisor" gvisor
part "what is killed, stopped and deleted" disruption
printf '\nall of it: %s s\n' "$((SECONDS - started))"
