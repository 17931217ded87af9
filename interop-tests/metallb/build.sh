#!/usr/bin/env bash
# Builds MetalLB's controller and speaker, and frr-k8s, once, into a cache: ferrolb is tested beside them
# and compared with them.
#
#   interop-tests/metallb/build.sh CACHE_DIR VERSION
#
# Writes the programs controller, speaker and frr-k8s to CACHE_DIR, with the reloader of frr-k8s and
# MetalLB's manifest for it. The build takes about four minutes.
set -euo pipefail

# The version of Go that the modules' go.mod require.
readonly GO_WANTED=1.23.0
# The version of frr-k8s in the manifest of MetalLB 0.14.9.
readonly FRR_K8S=v0.0.16

cache=$1
version=$2
# shellcheck source=../go.sh
source "$(dirname "${BASH_SOURCE[0]}")/../go.sh"
mkdir -p "$cache"

# Copies the sources of the module $1 to the folder $2. `go install` refuses a module whose go.mod has
# replacements, so the sources are copied out of the read-only module cache.
copy_sources() {
  local dir
  dir=$(cd "$cache" && "$go" mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  mkdir "$2"
  cp -r "$dir/." "$2"
  chmod -R u+w "$2"
}

# Builds package $2 of the sources in $1 as program $3. It has a temporary name until it is complete.
build() {
  (cd "$1" && "$go" build -trimpath -o "$cache/.$3.part" "$2")
  mv "$cache/.$3.part" "$cache/$3"
}

missing=()
for program in controller speaker frr-k8s; do
  [ -x "$cache/$program" ] || missing+=("$program")
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

find_go "$GO_WANTED" "$cache"
say "building ${missing[*]} for MetalLB $version with $("$go" version) into $cache"
export GOTOOLCHAIN=local GOFLAGS=-mod=mod CGO_ENABLED=0
sources=$(mktemp -d)
trap 'rm -rf "$sources"' EXIT
copy_sources "go.universe.tf/metallb@$version" "$sources/metallb"
copy_sources "github.com/metallb/frr-k8s@$FRR_K8S" "$sources/frr-k8s"
install -m 0644 "$sources/metallb/config/manifests/metallb-frr-k8s.yaml" "$cache/metallb-frr-k8s.yaml"
install -m 0755 "$sources/frr-k8s/frr-tools/reloader/frr-reloader.sh" "$cache/frr-reloader.sh"
for program in "${missing[@]}"; do
  case $program in
    frr-k8s) build "$sources/frr-k8s" ./cmd frr-k8s ;;
    *) build "$sources/metallb" "./$program" "$program" ;;
  esac
done
