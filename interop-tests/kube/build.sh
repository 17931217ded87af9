#!/usr/bin/env bash
# Builds the Kubernetes programs of the lab and downloads MetalLB's manifests once, into a cache.
#
#   interop-tests/kube/build.sh [CACHE_DIR]
#
# CACHE_DIR defaults to ${FERROLB_KUBE_CACHE:-$HOME/.cache/ferrolb/kube}/v1.34.2. Existing files are
# kept. The first run takes about 10 minutes on two cores and needs 2 GB of memory and 4 GB of disk.
# With little memory set GO_BUILD_FLAGS, for example to "-p 1".
set -euo pipefail

readonly KUBERNETES=v1.34.2
readonly PROGRAMS=(kube-apiserver kubectl kube-controller-manager kube-proxy kube-scheduler kubelet)
# Of the oldest version that ferrolb supports (docs/versions.md), kube-apiserver only; see oldest/go.mod.
readonly OLDEST=v1.31.14
# MetalLB versions whose manifests are test data, with the SHA-256 of the file. The manifests are cached
# and never copied into this repository.
declare -Ar METALLB=(
  [v0.14.9]=951065e85692aa106f1bb5d5a487d9306154923a794ab1d82122881cbaf588e4
  [v0.16.2]=e5f7c268f114c446dc60aaad71b7cabf861f637743e033e354d7d48592807c6d
)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../go.sh
source "$here/../go.sh"
cache=${1:-${FERROLB_KUBE_CACHE:-$HOME/.cache/ferrolb/kube}/$KUBERNETES}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

# A second build waits for the first one and then finds its results.
exec 9>"$cache/.lock"
flock 9

metallb_manifest() { echo "$cache/metallb-$1.yaml"; }

missing=()
for program in "${PROGRAMS[@]}" "kube-apiserver-$OLDEST"; do
  [ -x "$cache/$program" ] || missing+=("$program")
done
unfetched=()
for version in "${!METALLB[@]}"; do
  [ -s "$(metallb_manifest "$version")" ] || unfetched+=("$version")
done
if [ ${#missing[@]} -eq 0 ] && [ ${#unfetched[@]} -eq 0 ]; then
  say "Kubernetes $KUBERNETES: all programs are in $cache"
  exit 0
fi

find_go "$(awk '$1 == "go" { print $2 }' "$here/go.mod")" "$cache"
export GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0
cd "$here"
say "$("$go" version), cache $cache"

for version in "${unfetched[@]}"; do
  say "downloading the manifests of MetalLB $version"
  # Outside this module, so that MetalLB does not affect the selected versions.
  dir=$(cd "$cache" && GOFLAGS=-mod=mod "$go" mod download -json "go.universe.tf/metallb@$version" |
    sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  echo "${METALLB[$version]}  $dir/config/manifests/metallb-native.yaml" | sha256sum --check --quiet
  install -m 0644 "$dir/config/manifests/metallb-native.yaml" "$(metallb_manifest "$version")"
done

for program in "${missing[@]}"; do
  start=$SECONDS
  say "building $program (the first one of a version takes minutes)"
  version=$KUBERNETES module=.
  case $program in
  *-"$OLDEST") version=$OLDEST module=oldest ;;
  esac
  IFS=. read -r major minor _ <<<"${version#v}"
  stamp="-X k8s.io/component-base/version.gitVersion=$version"
  stamp+=" -X k8s.io/component-base/version.gitMajor=$major -X k8s.io/component-base/version.gitMinor=$minor"
  # With a temporary name, so that a program with its final name is always complete.
  # shellcheck disable=SC2086 # GO_BUILD_FLAGS is a list
  "$go" -C "$module" build ${GO_BUILD_FLAGS:-} -trimpath -ldflags "-s -w $stamp" \
    -o "$cache/.$program.part" "k8s.io/kubernetes/cmd/${program%-"$OLDEST"}"
  mv "$cache/.$program.part" "$cache/$program"
  say "built $program in $((SECONDS - start)) s"
done
say "Kubernetes $KUBERNETES, and the API server of $OLDEST, are ready in $cache"
