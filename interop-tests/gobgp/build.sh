#!/usr/bin/env bash
# Builds the current GoBGP for the benchmark `bgp` once, into a cache.
#
#   interop-tests/gobgp/build.sh CACHE_DIR VERSION
#
# Writes the programs gobgpd and gobgp to CACHE_DIR. The build takes about a minute.
set -euo pipefail

# The version of Go that the module's go.mod requires.
readonly GO_WANTED=1.25.0

cache=$1
version=$2
# shellcheck source=../go.sh
source "$(dirname "${BASH_SOURCE[0]}")/../go.sh"
mkdir -p "$cache"
if [ -x "$cache/gobgpd" ] && [ -x "$cache/gobgp" ]; then
  exit 0
fi

find_go "$GO_WANTED" "$cache"
say "building GoBGP $version with $("$go" version) into $cache"
# Built in another folder and moved, so that a program in CACHE_DIR is always complete.
module=github.com/osrg/gobgp/v4/cmd
GOTOOLCHAIN=local GOFLAGS= CGO_ENABLED=0 GOBIN="$cache/part" "$go" install -trimpath \
  "$module/gobgpd@$version" "$module/gobgp@$version"
mv "$cache/part/gobgpd" "$cache/part/gobgp" "$cache/"
rmdir "$cache/part"
