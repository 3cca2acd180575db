#!/usr/bin/env bash
# What lies outside of the sandboxes, for the demo and the tests: a real chain node with the router on it, a receiver of
# webhooks with a certificate of its own CA, a time stamp authority, and a witness of the log. They listen on the node's
# address only.
#   start            starts all but the witness, makes keys, and gives the broker and the signer their Secrets
#   witness          starts the witness, or again, with every key that the log has signed with
#   witness-stop     ends it
#   policy           prints a policy that demands its cosignature
#   stop             ends all
#   ip               the address
#   settings         what the chart is told of them, an argument a line
#   payer            the account that the signer pays with
#   router           the address of the router on the chain
#   stamps-ca        the file with the time stamp authority's root
#   alarms           what the receiver was sent, a line each
#   rpc METHOD [PARAMETERS]   asks the chain node
set -euo pipefail
# shellcheck source=../cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

OUTSIDE=$STATE/outside
CHAIN_PORT=28545
HOOKS_PORT=28443
WITNESS_PORT=28680
STAMPS_PORT=28318
SYSTEM=countersign-system

# Where pods find this machine.
ip() {
  case $(flavour) in
    local) echo "$NODE_IP" ;;
    kind) docker network inspect kind -f '{{range .IPAM.Config}}{{.Gateway}} {{end}}' | tr ' ' '\n' | grep -m1 '\.' ;;
    existing) echo "${COUNTERSIGN_OUTSIDE_IP:?set it to an address of this machine that the pods of the cluster can reach}" ;;
  esac
}

# A CA, and a certificate for the receiver's name.
certificate() {
  [[ -f $OUTSIDE/tls.crt ]] && return
  mkdir -p "$OUTSIDE"
  (
    umask 077
    cd "$OUTSIDE"
    openssl ecparam -name prime256v1 -genkey -noout -out ca.key
    openssl req -x509 -new -key ca.key -days 365 -subj /CN=countersign-demo -out ca.crt
    openssl ecparam -name prime256v1 -genkey -noout -out tls.key
    openssl req -new -key tls.key -subj /CN=hooks.countersign.demo -out tls.csr
    openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -out tls.crt \
      -extfile <(echo "subjectAltName=DNS:hooks.countersign.demo") 2>/dev/null
    echo "whsec_$(openssl rand -base64 24)" >secret
    openssl rand -hex 24 | tr -d '\n' >api-key
  )
}

# A root, and an authority below it that may do nothing but stamp.
authority() {
  [[ -f $OUTSIDE/tsa.crt ]] && return
  (
    umask 077
    cd "$OUTSIDE"
    openssl ecparam -name prime256v1 -genkey -noout -out tsa-ca.key
    openssl req -x509 -new -key tsa-ca.key -days 3650 -subj "/CN=Stamps Root" -out tsa-ca.crt \
      -addext keyUsage=critical,keyCertSign,cRLSign
    openssl ecparam -name prime256v1 -genkey -noout -out tsa.key
    openssl req -new -key tsa.key -subj "/CN=Stamps" -out tsa.csr
    openssl x509 -req -in tsa.csr -CA tsa-ca.crt -CAkey tsa-ca.key -CAcreateserial -days 3650 -out tsa.crt 2>/dev/null \
      -extfile <(printf '%s\n' extendedKeyUsage=critical,timeStamping keyUsage=critical,digitalSignature)
    cat >tsa.cnf <<CONF
[tsa]
default_tsa = demo
[demo]
serial = $OUTSIDE/tsa.serial
signer_cert = $OUTSIDE/tsa.crt
certs = $OUTSIDE/tsa-ca.crt
signer_key = $OUTSIDE/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_chain = no
ess_cert_id_alg = sha256
CONF
  )
}

# The router, put onto a chain that begins anew with every start, and an account of its own for it: an account's nonces
# are kept, and another chain would not know them.
router() {
  local code=0x deployer hash
  if [[ -f $OUTSIDE/router ]]; then code=$(rpc eth_getCode "[\"$(cut -d' ' -f1 "$OUTSIDE/router")\", \"latest\"]"); fi
  [[ $code == 0x ]] || return 0
  rm -f "$OUTSIDE/key" "$OUTSIDE/payer"
  "$BIN/countersign-signer" new-key "$OUTSIDE/key" >"$OUTSIDE/payer"
  deployer=$(rpc eth_accounts | jq -r '.[0]')
  rpc eth_sendTransaction "[{\"from\": \"$deployer\", \"to\": \"$(payer)\", \"value\": \"0x56bc75e2d63100000\"}]" >/dev/null # 100 ETH
  hash=$(rpc eth_sendTransaction "[{\"from\": \"$deployer\", \"data\": \"0x$(sed 's/^0x//' "$CLUSTER_DIR/../../operator/chain/contracts/Router.bin" | tr -d '\n')\"}]")
  mined() { [[ $(rpc eth_getTransactionReceipt "[\"$hash\"]" | jq -r .blockNumber) == 0x* ]]; }
  wait_for 15 "the router's deployment" mined
  rpc eth_getTransactionReceipt "[\"$hash\"]" | jq -r '[.contractAddress, .blockNumber] | join(" ")' >"$OUTSIDE/router"
}

payer() { cat "$OUTSIDE/payer"; }

# What the chart is told of the signer.
signer() {
  local address block
  read -r address block <"$OUTSIDE/router"
  cat <<YAML
signer:
  enabled: true
  networks:
    - name: ethereum
      type: Ethereum
      url: http://$(ip):$CHAIN_PORT
      chainId: 31337
      router: "$address"
      account: "$(payer)"
      deployedAt: $((block))
      confirmations: 2
      maxFeePerGas: "100"
      stallSeconds: 10
      secret: demo-chain-key
      limits:
        - {decimals: 18, perPayment: "5", daily: "50"}
      anchors: {intervalSeconds: 5}
    - name: stamps
      type: Timestamp
      url: http://$(ip):$STAMPS_PORT/
      roots: |
$(sed 's/^/        /' "$OUTSIDE/tsa-ca.crt")
      anchors: {intervalSeconds: 5}
YAML
}

secrets() {
  kubectl get namespace "$SYSTEM" >/dev/null 2>&1 || kubectl create namespace "$SYSTEM" >&2
  local secret
  kubectl -n "$SYSTEM" create secret generic demo-chain-key --from-file "key=$OUTSIDE/key" --dry-run=client -o yaml \
    | kubectl apply -f - >&2
  for secret in "demo-webhook secret" "demo-api api-key" "demo-trusted-ca ca.crt"; do
    kubectl -n "$SYSTEM" create secret generic "${secret% *}" --from-file "${secret#* }=$OUTSIDE/${secret#* }" \
      --dry-run=client -o yaml | kubectl apply -f - >&2
  done
}

# A pipeline, so that it fails where the node does not answer even if whoever calls it is a condition, for which `set -e` is off.
rpc() {
  curl -sS --fail --max-time 10 -H 'content-type: application/json' "http://$(ip):$CHAIN_PORT" \
    -d "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"$1\",\"params\":${2:-[]}}" \
    | jq -r 'if .error then error(.error.message) else .result end'
}

witness_key() { sed -n 2p "$OUTSIDE/witness.key"; }

# It knows the log by its public keys alone, which whoever starts it has to tell it.
witness() {
  local logs
  mapfile -t logs < <("$CLUSTER_DIR/postgres.sh" psql -Atc "select public from log_keys order by id")
  ((${#logs[@]})) || die "the log has no key yet"
  stop witness 10
  mkdir -p "$OUTSIDE/witness"
  spawn witness "$BIN/countersign-witness" --listen "$(ip):$WITNESS_PORT" --key "$OUTSIDE/witness.key" \
    --data "$OUTSIDE/witness" "${logs[@]/#/--log=}"
  wait_for 30 "the witness" curl -sf --max-time 5 -o /dev/null "http://$(ip):$WITNESS_PORT/healthz"
}

start() {
  local packages anvil
  packages=$("$CLUSTER_DIR/../node/install.sh")
  certificate
  [[ -f $OUTSIDE/witness.key ]] || (umask 077 && "$BIN/countersign-witness" generate-key "witness.countersign.demo" >"$OUTSIDE/witness.key")
  if ! alive chain; then
    anvil=$(find "$packages/node_modules/@foundry-rs" -path '*/bin/anvil' -type f -perm -u+x | head -1)
    # A block for each transaction, and one each second, so that what is mined comes to be final.
    spawn chain "$anvil" --silent --host "$(ip)" --port "$CHAIN_PORT" --chain-id 31337 --block-time 1 --mixed-mining
  fi
  if ! alive receiver; then
    touch "$OUTSIDE/alarms"
    COUNTERSIGN_TEST_NODE=$packages spawn receiver node "$CLUSTER_DIR/../outside/receiver.mjs" "$(ip)" "$HOOKS_PORT" \
      "$OUTSIDE/tls.crt" "$OUTSIDE/tls.key" "$OUTSIDE/secret" "$OUTSIDE/alarms"
  fi
  authority
  if ! alive stamps; then
    spawn stamps node "$CLUSTER_DIR/../outside/stamps.mjs" "$(ip)" "$STAMPS_PORT" "$OUTSIDE"
  fi
  wait_for 30 "the chain node" rpc eth_chainId
  router
  wait_for 30 "the time stamp authority" curl -s --max-time 5 -o /dev/null "http://$(ip):$STAMPS_PORT/"
  wait_for 30 "the receiver of webhooks" curl -sk --max-time 5 -o /dev/null "https://$(ip):$HOOKS_PORT/"
  KUBECONFIG=$(kubeconfig) secrets
}

settings() {
  signer >"$OUTSIDE/signer.yaml"
  printf '%s\n' --set 'broker.secrets={demo-webhook,demo-api}' --set broker.trustedCA.secret=demo-trusted-ca \
    --set "broker.hostAliases[0].ip=$(ip)" \
    --set 'broker.hostAliases[0].hostnames={chain.countersign.demo,hooks.countersign.demo}' \
    --set "alerts.webhook.url=https://hooks.countersign.demo:$HOOKS_PORT/alarms" \
    --set 'alerts.webhook.addresses={10.0.0.0/8}' --set alerts.webhook.secret=demo-webhook \
    --set "witnesses[0].url=http://$(ip):$WITNESS_PORT" --set "witnesses[0].key=$(witness_key)" \
    --values "$OUTSIDE/signer.yaml"
}

case ${1:-} in
  start) start ;;
  witness) witness ;;
  witness-stop) stop witness 10 ;;
  policy) printf 'witness outside %s\nquorum outside\n' "$(witness_key)" ;;
  stop)
    stop witness 10
    stop receiver 5
    stop stamps 5
    stop chain 5
    ;;
  ip) ip ;;
  settings) settings ;;
  payer) payer ;;
  router) cut -d' ' -f1 "$OUTSIDE/router" ;;
  stamps-ca) echo "$OUTSIDE/tsa-ca.crt" ;;
  alarms) cat "$OUTSIDE/alarms" ;;
  rpc) rpc "${@:2}" ;;
  *) die "outside.sh: start, witness, witness-stop, policy, stop, ip, settings, payer, router, stamps-ca, alarms or rpc" ;;
esac
