#!/usr/bin/env bash
# kill-operator.sh POD...: ends these replicas of the operator as kill -9 would, without a word of warning, and
# deletes their pods so that fresh ones take their place. (A forced deletion alone still sends SIGTERM first.)
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=local/node.sh
source "$CLUSTER_DIR/local/node.sh"

KUBECONFIG=$(kubeconfig)
export KUBECONFIG
for pod in "$@"; do
  if [[ $(flavour) == local ]]; then
    id=$(kubectl -n countersign-system get pod "$pod" -o 'jsonpath={.status.containerStatuses[0].containerID}')
    ctr_local task kill --signal SIGKILL "${id#containerd://}"
  fi
  kubectl -n countersign-system delete pod "$pod" --grace-period=0 --force --wait=false >/dev/null 2>&1
done
