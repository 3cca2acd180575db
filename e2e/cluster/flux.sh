#!/usr/bin/env bash
# Flux' source- and kustomize-controller beside the local cluster, and a Git server for them, all on this machine.
#   start          brings them up, and prints the Git server's URL
#   repository NAME  makes an empty bare repository, and prints its path
#   stop
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

FOLDER=$STATE/flux
GIT_PORT=26280
STORAGE_PORT=26281
KUBECONFIG=$(kubeconfig)
export KUBECONFIG

serve_git() {
  alive git-server && return
  mkdir -p "$FOLDER/git"
  cat >"$FOLDER/lighttpd.conf" <<CONF
server.document-root = "$FOLDER/git"
server.bind = "127.0.0.1"
server.port = $GIT_PORT
server.modules = ("mod_alias", "mod_setenv", "mod_cgi")
alias.url = ("/" => "/usr/lib/git-core/git-http-backend/")
cgi.assign = ("" => "")
setenv.set-environment = ("GIT_PROJECT_ROOT" => "$FOLDER/git", "GIT_HTTP_EXPORT_ALL" => "1")
CONF
  spawn git-server lighttpd -D -f "$FOLDER/lighttpd.conf"
  wait_for 15 "the Git server" curl -s --noproxy '*' -o /dev/null "http://127.0.0.1:$GIT_PORT/"
}

controllers() {
  kubectl apply --server-side -f "$BIN/flux-crds.yaml" >/dev/null
  kubectl create namespace flux-system --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  kubectl wait --for=condition=Established --timeout=60s crd/gitrepositories.source.toolkit.fluxcd.io \
    crd/kustomizations.kustomize.toolkit.fluxcd.io >/dev/null
  export RUNTIME_NAMESPACE=flux-system TUF_ROOT=$FOLDER/tuf
  local common=(--enable-leader-election=false --log-level=info --events-addr=)
  if ! alive source-controller; then
    mkdir -p "$FOLDER/storage"
    spawn source-controller "$BIN/source-controller" "${common[@]}" --metrics-addr=127.0.0.1:26282 --health-addr=127.0.0.1:26283 \
      --storage-path="$FOLDER/storage" --storage-addr="127.0.0.1:$STORAGE_PORT" --storage-adv-addr="127.0.0.1:$STORAGE_PORT"
  fi
  if ! alive kustomize-controller; then
    spawn kustomize-controller "$BIN/kustomize-controller" "${common[@]}" --requeue-dependency=2s --metrics-addr=127.0.0.1:26284 --health-addr=127.0.0.1:26285
  fi
  wait_for 60 "source-controller" curl -fs --noproxy '*' http://127.0.0.1:26283/readyz
  wait_for 60 "kustomize-controller" curl -fs --noproxy '*' http://127.0.0.1:26285/readyz
}

case ${1:-} in
  start)
    "$CLUSTER_DIR/build.sh" gitops
    serve_git
    controllers
    echo "http://127.0.0.1:$GIT_PORT"
    ;;
  repository)
    repository=$FOLDER/git/${2:?the name of the repository}.git
    rm -rf "$repository"
    git init --quiet --bare --initial-branch=main "$repository"
    echo "$repository"
    ;;
  stop) for name in kustomize-controller source-controller git-server; do stop "$name" 10; done ;;
  *) die "flux.sh: start, repository NAME or stop" ;;
esac
