#!/usr/bin/env bash
# Builds Helm, and downloads the CRDs of the Prometheus operator and the default values of MetalLB's charts once, into a
# cache: the lab checks ferrolb's chart with them.
#
#   interop-tests/packaging/build.sh CACHE_DIR HELM_VERSION
#
# Writes the program helm and the files monitoring-crds.yaml and metallb-values-VERSION.yaml to CACHE_DIR. After
# Kubernetes, which has most packages in common, the build takes about a minute and a half on two cores.
set -euo pipefail

# The version of Go that the module's go.mod requires.
readonly GO_WANTED=1.24.0
readonly OPERATOR=github.com/prometheus-operator/prometheus-operator@v0.85.0
readonly CRDS=example/prometheus-operator-crd/monitoring.coreos.com_
readonly METALLB=go.universe.tf/metallb@
# SHA-256 of each file in a module.
readonly SUMS="
8ce88c52c51209993511cae093089c9525f5552def88119e3f559123ee9d454b  $OPERATOR/${CRDS}podmonitors.yaml
98fd16c9ab79fba8dcd6ef62c957c98cd6546ab74ce0a4ecf09ddf2fda03020e  $OPERATOR/${CRDS}prometheusrules.yaml
1dae27b7189b5ce7b9ab764656c18b4c75a45cde1e6f3af6a5e84c4317628919  $OPERATOR/${CRDS}servicemonitors.yaml
ce79e08bf92e206c679ffb01e297a8c0b0ceb19ebc0303377920750732e29432  ${METALLB}v0.14.9/charts/metallb/values.yaml
08aa42fae1e64e88e385898a1421c1094b0d6416158527c6ae2754e80a003e82  ${METALLB}v0.16.2/charts/metallb/values.yaml
"

cache=$1
version=$2
# shellcheck source=../go.sh
source "$(dirname "${BASH_SOURCE[0]}")/../go.sh"
mkdir -p "$cache"
# helm is the last file that is written.
if [ -x "$cache/helm" ]; then
  exit 0
fi

find_go "$GO_WANTED" "$cache"
export GOTOOLCHAIN=local GOFLAGS= CGO_ENABLED=0
modules=$("$go" env GOMODCACHE)
(cd "$cache" && "$go" mod download "$OPERATOR" "${METALLB}v0.14.9" "${METALLB}v0.16.2")
(cd "$modules" && sha256sum --check --quiet <<<"$SUMS")
cat "$modules/$OPERATOR/$CRDS"{podmonitors,prometheusrules,servicemonitors}.yaml >"$cache/monitoring-crds.yaml"
for metallb in v0.14.9 v0.16.2; do
  install -m 0644 "$modules/$METALLB$metallb/charts/metallb/values.yaml" "$cache/metallb-values-$metallb.yaml"
done

start=$SECONDS
say "building Helm $version with $("$go" version) into $cache"
# The version of Kubernetes that `helm lint` and `helm template` assume; Helm's Makefile sets it to that of its
# client-go.
stamp=-s\ -w
for package in chartutil lint/rules; do
  stamp+=" -X helm.sh/helm/v3/pkg/$package.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/$package.k8sVersionMinor=34"
done
# Built in another folder and moved, so that the program in CACHE_DIR is always complete.
GOBIN="$cache/part" "$go" install -trimpath -ldflags "$stamp" "helm.sh/helm/v3/cmd/helm@$version"
mv "$cache/part/helm" "$cache/"
rmdir "$cache/part"
say "built Helm in $((SECONDS - start)) s"
