{{/*
The chart has no copy of the manifests: `manifests` and `monitoring` are links to the folders in deploy. The templates
change the parsed objects in place, as the values request.
*/}}

{{/* The objects of a file as a list in YAML. Takes root and file; without a file the list is empty. */}}
{{- define "ferrolb.objects" -}}
{{- $objects := list -}}
{{- range $text := splitList "\n---\n" (printf "\n%s" (.root.Files.Get .file | replace "metallb-system" .root.Release.Namespace)) -}}
{{- $object := fromYaml $text -}}
{{- if hasKey $object "Error" -}}
{{- fail (printf "%s: %s" $.file $object.Error) -}}
{{- end -}}
{{- if hasKey $object "kind" -}}
{{- $objects = append $objects $object -}}
{{- end -}}
{{- end -}}
{{- toYaml $objects -}}
{{- end -}}

{{/* "true" if the component's workload is installed. Takes root and component. */}}
{{- define "ferrolb.enabled" -}}
{{- $values := .root.Values -}}
{{- if eq .component "allocator" -}}
{{- $values.controller.enabled -}}
{{- else if eq .component "announcer" -}}
{{- and $values.speaker.enabled $values.speaker.bgp.enabled -}}
{{- else if eq .component "layer2" -}}
{{- and $values.speaker.enabled $values.speaker.layer2.enabled -}}
{{- else if eq .component "viewer" -}}
true
{{- else -}}
{{- fail (printf "%q is no component: an object of deploy/manifests lacks the label" .component) -}}
{{- end -}}
{{- end -}}

{{/* "true" if an object of the manifests is installed. Takes root and object. */}}
{{- define "ferrolb.wanted" -}}
{{- $values := .root.Values -}}
{{- $kind := .object.kind -}}
{{- if eq $kind "CustomResourceDefinition" -}}
{{- $values.crds.enabled -}}
{{- else if eq $kind "Namespace" -}}
false
{{- else -}}
{{- $component := dig "labels" "app.kubernetes.io/component" "" .object.metadata -}}
{{- $wanted := eq "true" (include "ferrolb.enabled" (dict "root" .root "component" $component)) -}}
{{- $role := ternary $values.controller $values.speaker (eq $component "allocator") -}}
{{- if hasPrefix "rbac.authorization.k8s.io/" .object.apiVersion -}}
{{- $wanted = and $wanted $values.rbac.create -}}
{{- else if eq $kind "ServiceAccount" -}}
{{- $wanted = and $wanted $role.serviceAccount.create -}}
{{- else if eq $kind "NetworkPolicy" -}}
{{- $wanted = and $wanted $values.networkpolicies.enabled -}}
{{- end -}}
{{- $wanted -}}
{{- end -}}
{{- end -}}

{{/* Changes an object of the manifests, which is wanted. Takes root and object. */}}
{{- define "ferrolb.change" -}}
{{- $values := .root.Values -}}
{{- $object := .object -}}
{{- $metadata := $object.metadata -}}
{{- if eq $object.kind "CustomResourceDefinition" -}}
{{- $keep := dict "helm.sh/resource-policy" "keep" -}}
{{- $_ := set $metadata "annotations" (merge $keep (default dict $metadata.annotations)) -}}
{{- else -}}
{{- $component := index $metadata.labels "app.kubernetes.io/component" -}}
{{- $role := ternary $values.controller $values.speaker (eq $component "allocator") -}}
{{- if eq $object.kind "ServiceAccount" -}}
{{- with $role.serviceAccount.annotations -}}{{- $_ := set $metadata "annotations" . -}}{{- end -}}
{{- else if eq $object.kind "Role" -}}
{{- range $object.rules -}}
{{- if and $values.existingConfigMap (has "configmaps" .resources) (hasKey . "resourceNames") -}}
{{- $_ := set . "resourceNames" (list $values.existingConfigMap) -}}
{{- end -}}
{{- end -}}
{{- else if eq $object.kind "NetworkPolicy" -}}
{{- range $object.spec.ingress -}}
{{- $_ := set . "ports" (list (dict "protocol" "TCP" "port" (int $values.prometheus.metricsPort))) -}}
{{- end -}}
{{- with $values.networkpolicies.apiPort -}}
{{- $ports := list (dict "protocol" "TCP" "port" (int .)) (dict "protocol" "TCP" "port" 443) -}}
{{- $_ := set $object.spec "egress" (list (dict "ports" ($ports | uniq))) -}}
{{- end -}}
{{- else if has $object.kind (list "Deployment" "DaemonSet") -}}
{{- with dict "root" .root "object" $object "component" $component "role" $role -}}
{{- include "ferrolb.workload" . -}}
{{- include "ferrolb.pod" . -}}
{{- include "ferrolb.container" . -}}
{{- include "ferrolb.capabilities" . -}}
{{- include "ferrolb.tls" . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The port of a component's metrics. */}}
{{- define "ferrolb.port" -}}
{{- $values := .root.Values -}}
{{- int (eq .component "layer2" | ternary $values.speaker.layer2.metricsPort $values.prometheus.metricsPort) -}}
{{- end -}}

{{/* Strategy, and metadata of the Pods. */}}
{{- define "ferrolb.workload" -}}
{{- $object := .object -}}
{{- if eq .component "allocator" -}}
{{- with .role.strategy -}}{{- $_ := set $object.spec "strategy" . -}}{{- end -}}
{{- else if eq .component "announcer" -}}
{{- with .role.updateStrategy -}}{{- $_ := set $object.spec "updateStrategy" . -}}{{- end -}}
{{- end -}}
{{- with .role.revisionHistoryLimit -}}
{{- if ne (int .) 10 -}}{{- $_ := set $object.spec "revisionHistoryLimit" (int .) -}}{{- end -}}
{{- end -}}
{{- $metadata := $object.spec.template.metadata -}}
{{- $annotations := deepCopy .role.podAnnotations -}}
{{- if .root.Values.prometheus.scrapeAnnotations -}}
{{- $scrape := dict "prometheus.io/scrape" "true" "prometheus.io/port" (include "ferrolb.port" .) -}}
{{- if .root.Values.tls.enabled -}}{{- $_ := set $scrape "prometheus.io/scheme" "https" -}}{{- end -}}
{{- $annotations = merge $annotations $scrape -}}
{{- end -}}
{{- $_ := set $metadata "annotations" $annotations -}}
{{- $_ := set $metadata "labels" (merge $metadata.labels .role.labels) -}}
{{- end -}}

{{/* Where and how the Pods run. */}}
{{- define "ferrolb.pod" -}}
{{- $pod := .object.spec.template.spec -}}
{{- $tolerations := $pod.tolerations -}}
{{- if and (ne .component "allocator") (not .role.tolerateMaster) -}}
{{- $tolerations = list -}}
{{- end -}}
{{- $tolerations = concat $tolerations .role.tolerations -}}
{{- if $tolerations -}}
{{- $_ := set $pod "tolerations" $tolerations -}}
{{- else -}}
{{- $_ := unset $pod "tolerations" -}}
{{- end -}}
{{- $_ := set $pod "nodeSelector" (merge (deepCopy .role.nodeSelector) $pod.nodeSelector) -}}
{{- with .role.priorityClassName -}}{{- $_ := set $pod "priorityClassName" . -}}{{- end -}}
{{- with .role.affinity -}}
{{- $affinity := deepCopy . -}}
{{- $own := list -}}
{{- range dig "nodeAffinity" "requiredDuringSchedulingIgnoredDuringExecution" "nodeSelectorTerms" list $pod.affinity -}}
{{- $own = concat $own .matchExpressions -}}
{{- end -}}
{{- /* The terms are alternatives, so the own conditions have to be in each of them. */ -}}
{{- range dig "nodeAffinity" "requiredDuringSchedulingIgnoredDuringExecution" "nodeSelectorTerms" list $affinity -}}
{{- $_ := set . "matchExpressions" (concat (default list .matchExpressions) $own) -}}
{{- end -}}
{{- $_ := set $pod "affinity" (mergeOverwrite $pod.affinity $affinity) -}}
{{- end -}}
{{- with .role.runtimeClassName -}}{{- $_ := set $pod "runtimeClassName" . -}}{{- end -}}
{{- with .root.Values.imagePullSecrets -}}{{- $_ := set $pod "imagePullSecrets" . -}}{{- end -}}
{{- $_ := set $pod "containers" (concat $pod.containers .role.extraContainers) -}}
{{- end -}}

{{/* Capabilities of the announcer. Kubernetes gives an added one only to processes of user 0. */}}
{{- define "ferrolb.capabilities" -}}
{{- $capabilities := list -}}
{{- if eq .component "announcer" -}}
{{- if .role.bgp.netAdmin }}{{ $capabilities = append $capabilities "NET_ADMIN" }}{{ end -}}
{{- if .role.bgp.unnumbered }}{{ $capabilities = append $capabilities "NET_RAW" }}{{ end -}}
{{- end -}}
{{- if $capabilities -}}
{{- $pod := .object.spec.template.spec -}}
{{- $root := dict "runAsNonRoot" false "runAsUser" 0 "runAsGroup" 0 -}}
{{- $_ := mergeOverwrite $pod.securityContext $root -}}
{{- $container := first $pod.containers -}}
{{- $_ := set $container.securityContext.capabilities "add" $capabilities -}}
{{- end -}}
{{- end -}}

{{/* Metrics over HTTPS. The probes of allocators and layer 2 don't use the port. */}}
{{- define "ferrolb.tls" -}}
{{- $tls := .root.Values.tls -}}
{{- $name := eq .component "allocator" | ternary "controllerMetricsTLSSecret" "speakerMetricsTLSSecret" -}}
{{- $secret := get $tls $name -}}
{{- if and $secret (not $tls.enabled) -}}
{{- fail (printf "tls.%s is set, but tls.enabled is false: set it to true" $name) -}}
{{- end -}}
{{- if $tls.enabled -}}
{{- $pod := .object.spec.template.spec -}}
{{- $container := first $pod.containers -}}
{{- range $probe := list $container.livenessProbe $container.readinessProbe -}}
{{- with $probe.httpGet -}}{{- $_ := set . "scheme" "HTTPS" -}}{{- end -}}
{{- end -}}
{{- $arguments := append $container.args "--metrics-tls" -}}
{{- if $secret -}}
{{- $folder := "/etc/ferrolb/metrics-tls" -}}
{{- $arguments = append $arguments (printf "--metrics-tls-cert-dir=%s" $folder) -}}
{{- $mount := dict "name" "metrics-tls" "mountPath" $folder "readOnly" true -}}
{{- $_ := set $container "volumeMounts" (append (default list $container.volumeMounts) $mount) -}}
{{- $volume := dict "name" "metrics-tls" "secret" (dict "secretName" $secret) -}}
{{- $_ := set $pod "volumes" (append (default list $pod.volumes) $volume) -}}
{{- end -}}
{{- $_ := set $container "args" $arguments -}}
{{- end -}}
{{- end -}}

{{/* ferrolb's container, the first one. */}}
{{- define "ferrolb.container" -}}
{{- $values := .root.Values -}}
{{- $container := first .object.spec.template.spec.containers -}}
{{- $version := printf ":%s" $values.image.tag -}}
{{- with $values.image.digest -}}{{- $version = printf "@%s" . -}}{{- end -}}
{{- $_ := set $container "image" (printf "%s%s" $values.image.repository $version) -}}
{{- $_ := set $container "imagePullPolicy" $values.image.pullPolicy -}}
{{- $resources := ternary $values.speaker.layer2.resources .role.resources (eq .component "layer2") -}}
{{- $_ := set $container "resources" $resources -}}
{{- $port := int (include "ferrolb.port" .) -}}
{{- range $container.ports -}}
{{- $_ := set . "containerPort" $port -}}
{{- end -}}
{{- $arguments := list -}}
{{- range $container.args -}}
{{- $arguments = append $arguments (regexReplaceAll "^(--metrics-addr=.*:)[0-9]+$" . (printf "${1}%d" $port)) -}}
{{- end -}}
{{- if $values.speaker.ignoreExcludeLB -}}
{{- $arguments = append $arguments "--ignore-exclude-lb" -}}
{{- end -}}
{{- if ne .component "allocator" -}}
{{- with .role.serviceProxyHealth -}}
{{- $arguments = append $arguments (printf "--service-proxy-health=%s" .) -}}
{{- end -}}
{{- end -}}
{{- if eq .component "announcer" -}}
{{- with .role.bgp.bmp -}}
{{- $arguments = append $arguments (printf "--bmp=%s" .) -}}
{{- end -}}
{{- end -}}
{{- with $values.existingConfigMap -}}
{{- $arguments = append $arguments (printf "--config-map=%s" .) -}}
{{- end -}}
{{- with $values.loadBalancerClass -}}
{{- $arguments = append $arguments (printf "--lb-class=%s" .) -}}
{{- end -}}
{{- if ne .role.logLevel "info" -}}
{{- $arguments = append $arguments (printf "--log-level=%s" .role.logLevel) -}}
{{- end -}}
{{- $_ := set $container "args" $arguments -}}
{{- end -}}
