# The node: its network, containerd, the kubelet and kube-proxy.
# shellcheck shell=bash

make_network() {
  # A bridge with a single address serves as the node's interface; not every kernel has dummy links.
  if ! ip link show csnode0 >/dev/null 2>&1; then
    ip link add csnode0 type bridge
    ip address add "$NODE_IP/32" dev csnode0
  fi
  ip link set csnode0 up
  sysctl -qw net.ipv4.ip_forward=1
  mkdir -p "$STATE/cni/conf"
  cat >"$STATE/cni/conf/10-bridge.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "countersign", "plugins": [
  {"type": "bridge", "bridge": "cspods0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$STATE/cni/leases", "ranges": [[{"subnet": "$POD_CIDR"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
}

start_node() {
  mkdir -p "$STATE/containerd"
  cat >"$STATE/containerd.toml" <<TOML
version = 3
root = "$STATE/containerd/root"
state = "$STATE/containerd/state"
[grpc]
  address = "$STATE/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "$REGISTRY/pause:dev"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["$BIN"]
  conf_dir = "$STATE/cni/conf"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  BinaryName = "$BIN/runc"
  SystemdCgroup = false
# Its shim, which gvisor.sh builds, is looked for on the PATH when a pod asks for it; all else works without.
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runsc]
  runtime_type = "io.containerd.runsc.v1"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runsc.options]
  TypeUrl = "io.containerd.runsc.v1.options"
  ConfigPath = "$STATE/runsc.toml"
TOML
  cat >"$STATE/runsc.toml" <<TOML
binary_name = "$BIN/runsc"
root = "$STATE/runsc"
[runsc_config]
  platform = "systrap"
TOML
  # One that a machine left behind when it went down answers nobody.
  rm -f "$STATE/containerd/containerd.sock"
  spawn containerd "$BIN/containerd" --config "$STATE/containerd.toml"
  wait_for 30 containerd test -S "$STATE/containerd/containerd.sock"

  cat >"$STATE/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
failSwapOn: false
maxPods: 500
port: 26250
healthzPort: 26248
readOnlyPort: 0
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: "1%", imagefs.available: "1%"}
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $KEYS/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $KEYS/kubelet.crt
tlsPrivateKeyFile: $KEYS/kubelet.key
containerRuntimeEndpoint: unix://$STATE/containerd/containerd.sock
kubeAPIQPS: 200
kubeAPIBurst: 400
serializeImagePulls: false
registerNode: true
YAML
  spawn kubelet "$BIN/kubelet" --config "$STATE/kubelet.yaml" --kubeconfig "$KEYS/kubelet.kubeconfig" \
    --hostname-override "$NODE" --node-ip "$NODE_IP" --root-dir "$STATE/kubelet" --v 2
  spawn kube-proxy "$BIN/kube-proxy" --kubeconfig "$KEYS/kube-proxy.kubeconfig" --hostname-override "$NODE" \
    --proxy-mode nftables --cluster-cidr "$POD_CIDR" --healthz-bind-address 127.0.0.1:26256 \
    --metrics-bind-address 127.0.0.1:26249 --conntrack-max-per-core 0 \
    --conntrack-tcp-timeout-established 0s --conntrack-tcp-timeout-close-wait 0s
}


load_pause() {
  if [[ -z $(ctr_local images list -q "name==$REGISTRY/pause:dev") ]]; then
    local work
    work=$(mktemp -d)
    gcc -static -Os -s -o "$work/pause" "$CLUSTER_DIR/pause/pause.c"
    cp "$CLUSTER_DIR/pause/Containerfile" "$work/"
    "$CLUSTER_DIR/image.sh" pause "$work/Containerfile" "$work" >/dev/null
    rm -rf "$work"
  fi
}

# ctr repeats containerd's notice about cgroup v1 at every call.
ctr_local() {
  ctr --address "$STATE/containerd/containerd.sock" -n k8s.io "$@" 2> >(grep -v 'level=warning msg="DEPRECATION' >&2)
}
