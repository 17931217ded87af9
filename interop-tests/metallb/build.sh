#!/usr/bin/env bash
# Builds MetalLB's controller and speaker once, into a cache: ferrolb is tested beside them and compared
# with them.
#
#   interop-tests/metallb/build.sh CACHE_DIR VERSION
#
# Writes the programs controller and speaker to CACHE_DIR. The build takes about two minutes.
set -euo pipefail

# The version of Go that the module's go.mod requires.
readonly GO_WANTED=1.23.0

cache=$1
version=$2
# shellcheck source=../go.sh
source "$(dirname "${BASH_SOURCE[0]}")/../go.sh"
mkdir -p "$cache"
if [ -x "$cache/controller" ] && [ -x "$cache/speaker" ]; then
  exit 0
fi

find_go "$GO_WANTED" "$cache"
say "building MetalLB $version with $("$go" version) into $cache"
# `go install` refuses a module whose go.mod has replacements, so the sources are copied out of the
# read-only module cache.
export GOTOOLCHAIN=local GOFLAGS=-mod=mod CGO_ENABLED=0
dir=$(cd "$cache" && "$go" mod download -json "go.universe.tf/metallb@$version" |
  sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
sources=$(mktemp -d)
trap 'rm -rf "$sources"' EXIT
cp -r "$dir/." "$sources"
chmod -R u+w "$sources"
# With a temporary name, so that a program with its final name is always complete.
for program in controller speaker; do
  (cd "$sources" && "$go" build -trimpath -o "$cache/.$program.part" "./$program")
  mv "$cache/.$program.part" "$cache/$program"
done
