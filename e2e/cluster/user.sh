#!/usr/bin/env bash
# user.sh NAME [GROUP...]: a kubeconfig for a person of that name, and prints its path. The certificate is
# signed by the cluster, as an administrator would do it.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

name=$1
# Names may be of any script, and the same person may come with other groups.
id=$(printf '%s\n' "$@" | sha256sum | cut -c1-16)
shift
file=$STATE/users/$id.kubeconfig
mkdir -p "$STATE/users"
exec 9>"$STATE/users/lock"
flock 9
if [[ -f $file ]]; then
  echo "$file"
  exit
fi
admin=$(kubeconfig) work=$(mktemp -d) subject=
for group in "$@"; do subject+="/O=$group"; done
openssl ecparam -name prime256v1 -genkey -noout -out "$work/key"
openssl req -utf8 -new -key "$work/key" -subj "$subject/CN=$name" -out "$work/csr"
kubectl --kubeconfig "$admin" delete csr "countersign-$id" --ignore-not-found >/dev/null
kubectl --kubeconfig "$admin" create -f - >/dev/null <<YAML
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: "countersign-$id"}
spec:
  request: $(base64 -w0 "$work/csr")
  signerName: kubernetes.io/kube-apiserver-client
  usages: [client auth]
YAML
kubectl --kubeconfig "$admin" certificate approve "countersign-$id" >/dev/null
issued() { [[ -n $(kubectl --kubeconfig "$admin" get csr "countersign-$id" -o 'jsonpath={.status.certificate}') ]]; }
wait_for 30 "the certificate of $name" issued
kubectl --kubeconfig "$admin" get csr "countersign-$id" -o 'jsonpath={.status.certificate}' | base64 -d >"$work/crt"
cp "$admin" "$file.partial"
kubectl config --kubeconfig "$file.partial" set-credentials "$name" --client-certificate "$work/crt" --client-key "$work/key" --embed-certs >/dev/null
kubectl config --kubeconfig "$file.partial" set-context --current --user "$name" >/dev/null
mv "$file.partial" "$file"
rm -rf "$work"
echo "$file"
