#!/usr/bin/env bash
# Makes the RuntimeClass gvisor to be had on the cluster that up.sh brought up. Where it cannot be, prints why.
# Can be run again.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
KUBECONFIG=$(kubeconfig)
export KUBECONFIG

node_knows_runsc() {
  [[ " $(kubectl get node "$NODE" -o jsonpath='{.status.runtimeHandlers[*].name}') " == *" runsc "* ]]
}

gvisor_local() {
  "$CLUSTER_DIR/build.sh" gvisor
  local complaint
  if ! complaint=$(runsc --root "$STATE/runsc" --platform systrap --network none --ignore-cgroups "do" true 2>&1); then
    echo "gVisor does not run on this kernel: $complaint"
    return
  fi
  node_knows_runsc || die "containerd on the node $NODE was started before its configuration named runsc: run e2e/cluster/down.sh --keep-data, then e2e/cluster/up.sh"
  kubectl apply -f - >&2 <<YAML
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: gvisor}
handler: runsc
YAML
}

case $(flavour) in
  existing | kind)
    kubectl get runtimeclass gvisor >/dev/null 2>&1 ||
      echo "the cluster has no RuntimeClass gvisor: https://gvisor.dev/docs/user_guide/containerd/quick_start/ says how to get one"
    ;;
  local) gvisor_local ;;
esac
