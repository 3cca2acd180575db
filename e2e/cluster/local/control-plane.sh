# etcd, the API server, the controller manager and the scheduler.
# shellcheck shell=bash

start_control_plane() {
  # fsync is left out: this etcd holds nothing that anybody would miss.
  spawn etcd "$BIN/etcd" --name local --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:22379 --advertise-client-urls http://127.0.0.1:22379 \
    --listen-peer-urls http://127.0.0.1:22380 --initial-advertise-peer-urls http://127.0.0.1:22380 \
    --initial-cluster local=http://127.0.0.1:22380 --quota-backend-bytes 4294967296

  spawn kube-apiserver "$BIN/kube-apiserver" \
    --etcd-servers http://127.0.0.1:22379 --bind-address 0.0.0.0 --secure-port "$API_PORT" \
    --advertise-address "$NODE_IP" --service-cluster-ip-range "$SERVICE_CIDR" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged \
    --kubelet-preferred-address-types InternalIP --enable-aggregator-routing \
    --max-requests-inflight 1200 --max-mutating-requests-inflight 600 \
    --client-ca-file "$KEYS/ca.crt" \
    --tls-cert-file "$KEYS/kube-apiserver.crt" --tls-private-key-file "$KEYS/kube-apiserver.key" \
    --kubelet-certificate-authority "$KEYS/ca.crt" \
    --kubelet-client-certificate "$KEYS/kubelet-client.crt" --kubelet-client-key "$KEYS/kubelet-client.key" \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$KEYS/service-account.pub" \
    --service-account-signing-key-file "$KEYS/service-account.key" \
    --requestheader-client-ca-file "$KEYS/ca.crt" --requestheader-allowed-names front-proxy-client \
    --requestheader-extra-headers-prefix X-Remote-Extra- --requestheader-group-headers X-Remote-Group \
    --requestheader-username-headers X-Remote-User \
    --proxy-client-cert-file "$KEYS/front-proxy.crt" --proxy-client-key-file "$KEYS/front-proxy.key"

  spawn kube-controller-manager "$BIN/kube-controller-manager" \
    --kubeconfig "$KEYS/kube-controller-manager.kubeconfig" --bind-address 127.0.0.1 --secure-port 20257 \
    --leader-elect=false --use-service-account-credentials --concurrent-job-syncs 20 \
    --kube-api-qps 500 --kube-api-burst 1000 \
    --root-ca-file "$KEYS/ca.crt" --service-account-private-key-file "$KEYS/service-account.key" \
    --cluster-signing-cert-file "$KEYS/ca.crt" --cluster-signing-key-file "$KEYS/ca.key"

  cat >"$STATE/scheduler.yaml" <<YAML
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {kubeconfig: $KEYS/kube-scheduler.kubeconfig, qps: 500, burst: 1000}
YAML
  spawn kube-scheduler "$BIN/kube-scheduler" --config "$STATE/scheduler.yaml" \
    --bind-address 127.0.0.1 --secure-port 20259
}
