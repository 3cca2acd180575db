#!/usr/bin/env bash
# Takes the cluster down that up.sh brought up: ends exactly what it started, and removes what it made.
# With --keep-data, keys, images and PostgreSQL stay.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=local/node.sh
source "$CLUSTER_DIR/local/node.sh"

end_containers() {
  # Shims are daemons of their own; they carry our containerd's address on their command line.
  local cmdline pid
  for cmdline in /proc/[0-9]*/cmdline; do
    pid=${cmdline#/proc/} pid=${pid%/cmdline}
    if tr '\0' ' ' 2>/dev/null <"$cmdline" | grep -qE "^[^ ]*containerd-shim-run(c-v2|sc-v1) .*$STATE/containerd/containerd.sock"; then
      local child
      while read -r child; do
        if [[ -n $child ]]; then kill -9 "$child" 2>/dev/null || continue; fi
      done < <(cat "/proc/$pid/task"/*/children 2>/dev/null | tr ' ' '\n')
      kill -9 "$pid" 2>/dev/null || continue
    fi
  done
}

down_local() {
  local daemon
  for daemon in witness receiver stamps chain kustomize-controller source-controller git-server kubelet kube-proxy kube-scheduler kube-controller-manager; do stop "$daemon" 10; done
  end_containers
  stop containerd 10
  stop kube-apiserver 70
  stop etcd 10
  local target
  # The deepest mounts first.
  awk -v state="$STATE/" 'index($2, state) == 1 {print $2}' /proc/mounts | sort -r | while read -r target; do
    umount "$(printf '%b' "$target")"
  done
  for link in csnode0 cspods0; do
    if ip link show "$link" >/dev/null 2>&1; then ip link delete "$link"; fi
  done
  if nft list table ip kube-proxy >/dev/null 2>&1; then nft delete table ip kube-proxy; fi
  rm -rf "$STATE/kubelet" "$STATE/etcd" "$STATE/cni" "$STATE/runsc" "$STATE/containerd/state"
}

case $(flavour) in
  existing) say "an existing cluster is left alone" ;;
  kind) if [[ ${1:-} != --keep-data ]]; then kind delete cluster --name countersign >&2; fi ;;
  local)
    down_local
    if [[ ${1:-} != --keep-data ]]; then
      "$CLUSTER_DIR/postgres.sh" stop
      rm -rf "$STATE"
      say "the local cluster and its state are gone; built components stay in $CACHE"
    fi
    ;;
esac
