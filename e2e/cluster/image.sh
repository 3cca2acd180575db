#!/usr/bin/env bash
# image.sh NAME CONTAINERFILE CONTEXT: builds an image and gives it to the cluster. Prints its reference by
# digest, which is how pods name it. Nothing is done where the same content is there already.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=local/node.sh
source "$CLUSTER_DIR/local/node.sh"

name=$1 containerfile=$2 context=$3
key=$({ cat "$containerfile"; find "$context" -type f -print0 | sort -z | xargs -0 sha256sum | cut -d' ' -f1; } | sha256sum | cut -c1-24)
made=$STATE/images/$name-$key
mkdir -p "$STATE/images"
if [[ -f $made ]]; then
  cat "$made"
  exit
fi
tag=$REGISTRY/$name:dev
say "building the image $name"
case $(flavour) in
  existing | kind)
    docker build -q -t "$tag" -f "$containerfile" "$context" >&2
    ;;
  local)
    archive=$STATE/images/$name.tar
    rm -f "$archive"
    buildah --storage-driver vfs --root "$STATE/buildah" bud -q --isolation chroot --timestamp 0 -t "$tag" -f "$containerfile" "$context" >/dev/null
    buildah --storage-driver vfs --root "$STATE/buildah" push -q "$tag" "oci-archive:$archive:$tag" >&2
    buildah --storage-driver vfs --root "$STATE/buildah" rmi -f "$tag" >/dev/null
    ;;
esac
case $(flavour) in
  existing)
    docker push -q "$tag" >&2
    reference=$(docker inspect --format '{{index .RepoDigests 0}}' "$tag")
    ;;
  kind)
    kind load docker-image --name countersign "$tag" >&2
    reference=$REGISTRY/$name@$(docker exec countersign-control-plane ctr -n k8s.io images list "name==$tag" | awk 'NR==2 {print $3}')
    docker exec countersign-control-plane ctr -n k8s.io images tag --force "$tag" "$reference" >&2
    ;;
  local)
    ctr_local images import "$archive" >/dev/null
    rm -f "$archive"
    digest=$(ctr_local images list "name==$tag" | awk 'NR==2 {print $3}')
    reference=$REGISTRY/$name@$digest
    ctr_local images tag --force "$tag" "$reference" >/dev/null
    ;;
esac
echo "$reference" | tee "$made"
