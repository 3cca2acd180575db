# One CA, and a certificate and kubeconfig for everybody who talks to the API server.
# shellcheck shell=bash

KEYS=$STATE/keys

# certificate NAME SUBJECT [SAN]: a key and a certificate of our CA, unless they are there.
certificate() {
  local name=$1 subject=$2 san=${3:-} extensions=$'keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth'
  [[ -f $KEYS/$name.crt ]] && return
  [[ -n $san ]] && extensions+=$'\n'"subjectAltName=$san"
  openssl ecparam -name prime256v1 -genkey -noout -out "$KEYS/$name.key"
  openssl req -new -key "$KEYS/$name.key" -subj "$subject" -out "$KEYS/$name.csr"
  openssl x509 -req -in "$KEYS/$name.csr" -CA "$KEYS/ca.crt" -CAkey "$KEYS/ca.key" -CAcreateserial \
    -days 365 -extfile <(printf '%s\n' "$extensions") -out "$KEYS/$name.crt" 2>/dev/null
}

# kubeconfig_for NAME FILE: a kubeconfig with the certificate of that name.
kubeconfig_for() {
  local name=$1 file=$2
  kubectl config --kubeconfig "$file" set-cluster countersign --server "https://$NODE_IP:$API_PORT" \
    --certificate-authority "$KEYS/ca.crt" --embed-certs >/dev/null
  kubectl config --kubeconfig "$file" set-credentials "$name" --client-certificate "$KEYS/$name.crt" \
    --client-key "$KEYS/$name.key" --embed-certs >/dev/null
  kubectl config --kubeconfig "$file" set-context countersign --cluster countersign --user "$name" >/dev/null
  kubectl config --kubeconfig "$file" use-context countersign >/dev/null
  chmod 600 "$file"
}

make_keys() {
  mkdir -p "$KEYS"
  chmod 700 "$KEYS"
  if [[ ! -f $KEYS/ca.crt ]]; then
    openssl ecparam -name prime256v1 -genkey -noout -out "$KEYS/ca.key"
    openssl req -x509 -new -key "$KEYS/ca.key" -subj /CN=countersign-local-ca -days 365 -out "$KEYS/ca.crt" \
      -addext 'keyUsage=critical,keyCertSign,cRLSign,digitalSignature'
    openssl ecparam -name prime256v1 -genkey -noout -out "$KEYS/service-account.key"
    openssl ec -in "$KEYS/service-account.key" -pubout -out "$KEYS/service-account.pub" 2>/dev/null
  fi
  certificate kube-apiserver /CN=kube-apiserver \
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:$SERVICE_IP,IP:$NODE_IP"
  certificate admin /O=system:masters/CN=admin
  certificate kube-controller-manager /CN=system:kube-controller-manager
  certificate kube-scheduler /CN=system:kube-scheduler
  certificate kube-proxy /CN=system:kube-proxy
  certificate kubelet "/O=system:nodes/CN=system:node:$NODE" "DNS:$NODE,IP:$NODE_IP"
  certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
  certificate front-proxy /CN=front-proxy-client
  local name
  for name in kube-controller-manager kube-scheduler kube-proxy kubelet; do
    kubeconfig_for "$name" "$KEYS/$name.kubeconfig"
  done
  kubeconfig_for admin "$STATE/kubeconfig"
}
