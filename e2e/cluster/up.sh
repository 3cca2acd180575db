#!/usr/bin/env bash
# Brings up a cluster and returns when a pod could run on it: the one that KUBECONFIG names
# (COUNTERSIGN_CLUSTER=existing), else kind where a Docker engine is, else the real components on this
# machine. Prints the path of the kubeconfig. Can be run again.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=local/keys.sh
source "$CLUSTER_DIR/local/keys.sh"
# shellcheck source=local/node.sh
source "$CLUSTER_DIR/local/node.sh"
# shellcheck source=local/control-plane.sh
source "$CLUSTER_DIR/local/control-plane.sh"

ready() { kubectl --kubeconfig "$(kubeconfig)" --request-timeout 5s get --raw /readyz; }
node_ready() {
  kubectl --kubeconfig "$(kubeconfig)" wait --for=condition=Ready node --all --timeout=1s &&
    kubectl --kubeconfig "$(kubeconfig)" -n default get serviceaccount default
}

up_local() {
  if alive kubelet && alive kube-apiserver && ready >/dev/null 2>&1; then
    say "the local cluster is up"
    return
  fi
  # Half a cluster, left by a machine that went down or a run that was broken off.
  "$CLUSTER_DIR/down.sh" --keep-data
  local start=$SECONDS
  "$CLUSTER_DIR/build.sh" all
  say "booting etcd, the control plane and a node (about 15 s)"
  make_keys
  make_network
  start_control_plane
  wait_for 60 "the API server" ready
  start_node
  wait_for 90 "the node to be Ready" node_ready
  load_pause
  say "the local cluster is up after $((SECONDS - start)) s"
}

case $(flavour) in
  existing) wait_for 60 "the API server of $KUBECONFIG" ready ;;
  kind)
    if ! kind get clusters 2>/dev/null | grep -qx countersign; then
      say "creating a kind cluster (about 60 s)"
      mkdir -p "$STATE"
      kind create cluster --name countersign --kubeconfig "$STATE/kubeconfig" --wait 120s >&2
    fi
    "$CLUSTER_DIR/build.sh" tools
    ;;
  local) up_local ;;
esac
kubeconfig
