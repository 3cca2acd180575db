#!/usr/bin/env bash
# Builds the components of the local cluster from their Go modules, each once, into a cache that is keyed
# by what it is built from.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

KUBERNETES_VERSION=v1.36.3

packages() {
  local missing=() package
  for package in libseccomp-dev buildah nftables conntrack iproute2 iptables postgresql jq openssl gcc pkg-config shellcheck git lighttpd curl busybox-static python3 exim4-daemon-light; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if ((${#missing[@]})); then
    say "installing Debian packages (about 10 s): ${missing[*]}"
    apt-get update -qq
    # Exim is for the tests, which start their own: none as a daemon of the machine.
    export RUNLEVEL=1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi
}

# component NAME SECONDS BUILDER [FUNCTIONS]: builds components/NAME unless the cache has it, and links its
# programs. The functions are those that the builder calls.
component() {
  local name=$1 seconds=$2 builder=$3 source key out start=$SECONDS
  source=$CLUSTER_DIR/components/$name
  key=$({ cat "$source"/*.go "$source/go.mod" "$source/go.sum" && declare -f build "${@:3}"; } | sha256sum | cut -c1-16)
  out=$CACHE/components/$name/$key
  if [[ ! -d $out ]]; then
    say "building $name (about $seconds s, once)"
    rm -rf "$out.partial"
    mkdir -p "$out.partial"
    (cd "$source" && OUT=$out.partial quietly "building $name" "$builder")
    mv "$out.partial" "$out"
    say "built $name in $((SECONDS - start)) s"
  fi
  mkdir -p "$BIN"
  local program
  for program in "$out"/*; do ln -sfn "$program" "$BIN/${program##*/}"; done
}

build() { CGO_ENABLED=${CGO_ENABLED:-0} go build -trimpath "$@"; }

build_kubernetes() {
  local package flags="-s -w" program
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $package.gitVersion=$KUBERNETES_VERSION -X $package.gitMajor=1 -X $package.gitMinor=36"
  done
  build -ldflags "$flags" -o "$OUT/kubernetes" .
  for program in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
    ln -s kubernetes "$OUT/$program"
  done
}
build_etcd() { build -ldflags "-s -w" -o "$OUT/etcd" go.etcd.io/etcd/server/v3; }
build_containerd() {
  build -ldflags "-s -w" -o "$OUT/" github.com/containerd/containerd/v2/cmd/{containerd,containerd-shim-runc-v2,ctr}
}
build_runc() { CGO_ENABLED=1 build -tags seccomp -ldflags "-s -w" -o "$OUT/runc" github.com/opencontainers/runc; }
build_cni() {
  local plugins=github.com/containernetworking/plugins/plugins
  build -ldflags "-s -w" -o "$OUT/" $plugins/main/{bridge,loopback} $plugins/ipam/host-local $plugins/meta/portmap
}
build_helm() {
  build -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=v4.3.1" -o "$OUT/helm" helm.sh/helm/v4/cmd/helm
}
# With their kinds, which they are no use without.
build_flux() {
  local controller
  for controller in source kustomize; do
    build -ldflags "-s -w" -o "$OUT/" "github.com/fluxcd/$controller-controller"
    cat "$(go list -m -f '{{.Dir}}' "github.com/fluxcd/$controller-controller")"/config/crd/bases/*.yaml
  done >"$OUT/flux-crds.yaml"
}
build_gvisor() {
  build -ldflags "-s -w" -o "$OUT/runsc" gvisor.dev/gvisor/runsc
  build -ldflags "-s -w" -o "$OUT/containerd-shim-runsc-v1" gvisor.dev/gvisor/shim
}
# The shim gives up where it may not lower its own OOM score. This one goes on with the score that it has.
build_gvisor_keeping_oom_score() {
  local copy manager=vendor/gvisor.dev/gvisor/pkg/shim/v1/manager.go gives_up="failed to set OOM Score on shim"
  copy=$(mktemp -d)
  cp ./* "$copy/"
  cd "$copy"
  go mod vendor
  grep -q "$gives_up" "$manager" || die "gVisor's $manager no longer says \"$gives_up\": look where its shim sets its OOM score"
  sed -i "/$gives_up/d" "$manager"
  build_gvisor
  rm -rf "$copy"
}
# CAP_SYS_RESOURCE is bit 24.
may_lower_oom_scores() { (((0x$(awk '/^CapEff:/ {print $2}' /proc/self/status) >> 24) & 1)); }

case ${1:-all} in
  packages) packages ;;
  tools)
    component helm 120 build_helm
    component kubernetes 420 build_kubernetes
    ;;
  all)
    packages
    component helm 120 build_helm
    component etcd 30 build_etcd
    component runc 15 build_runc
    component cni 10 build_cni
    component containerd 75 build_containerd
    component kubernetes 420 build_kubernetes
    ;;
  gitops)
    component flux 300 build_flux
    ;;
  gvisor)
    if may_lower_oom_scores; then
      component gvisor 130 build_gvisor
    else
      component gvisor 130 build_gvisor_keeping_oom_score build_gvisor
    fi
    ;;
  *) die "build.sh: unknown argument $1; use packages, tools, all, gitops or gvisor" ;;
esac
