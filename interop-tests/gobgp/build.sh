#!/usr/bin/env bash
# Builds the GoBGP that the benchmark `bgp` compares beside Debian's, once, into a cache.
#
#   interop-tests/gobgp/build.sh CACHE_DIR VERSION
#
# CACHE_DIR gets the programs gobgpd and gobgp. The build takes about a minute.
set -euo pipefail

# The version of Go that the module's go.mod asks for.
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
# Into a folder beside first: what has its final name is whole.
module=github.com/osrg/gobgp/v4/cmd
GOTOOLCHAIN=local GOFLAGS= CGO_ENABLED=0 GOBIN="$cache/part" "$go" install -trimpath \
  "$module/gobgpd@$version" "$module/gobgp@$version"
mv "$cache/part/gobgpd" "$cache/part/gobgp" "$cache/"
rmdir "$cache/part"
