{{/* Names and labels, and what the values mean together. */}}

{{- define "keybroker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* Name of the release's objects: room is left for what some add to it. */}}
{{- define "keybroker.fullname" -}}
{{- $name := include "keybroker.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Labels that a selector may have, of one component: list of context and component. */}}
{{- define "keybroker.selector" -}}
{{- $context := index . 0 -}}
app.kubernetes.io/name: {{ include "keybroker.name" $context }}
app.kubernetes.io/instance: {{ $context.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "keybroker.labels" -}}
{{- $context := index . 0 -}}
{{ include "keybroker.selector" . }}
app.kubernetes.io/version: {{ $context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $context.Chart.Name $context.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "keybroker.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}
{{- else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end }}
{{- end }}
{{- end }}

{{- define "keybroker.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "keybroker.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* Whether there is a configuration that the chart does not see. */}}
{{- define "keybroker.unseenConfig" -}}
{{- if or .Values.existingConfigMap .Values.existingConfigSecret }}true{{ end }}
{{- end }}

{{/* Whether there are identities, as far as the chart sees. */}}
{{- define "keybroker.identities" -}}
{{- if or .Values.identities (regexMatch `(?m)^[ \t]*\[\[[ \t]*identities[ \t]*\]\]` .Values.config) }}true{{ end }}
{{- end }}

{{/* The Secret with keys, if there is one. */}}
{{- define "keybroker.keysSecret" -}}
{{- if .Values.keys.values }}{{ include "keybroker.fullname" . }}-keys{{ else }}{{ .Values.keys.existingSecret }}{{ end }}
{{- end }}

{{/* The Secret with the certificate. */}}
{{- define "keybroker.tlsSecret" -}}
{{- if .Values.tls.certManager.enabled }}{{ include "keybroker.fullname" . }}-tls{{ else }}{{ .Values.tls.existingSecret }}{{ end }}
{{- end }}

{{/* The Secret with the password of Redis, if it has one. */}}
{{- define "keybroker.redisPasswordSecret" -}}
{{- if .Values.redis.existingSecret }}{{ .Values.redis.existingSecret }}
{{- else if .Values.redis.bundled.enabled }}{{ include "keybroker.fullname" . }}-redis{{ end }}
{{- end }}

{{/* The URL of Redis; user and password are put in by the kubelet, from the variable REDIS_PASSWORD. */}}
{{- define "keybroker.redisUrl" -}}
{{- $url := .Values.redis.url }}
{{- if .Values.redis.bundled.enabled }}{{ $url = printf "redis://%s-redis:6379" (include "keybroker.fullname" .) }}{{ end }}
{{- if include "keybroker.redisPasswordSecret" . }}
{{- $parts := splitn "://" 2 $url }}
{{- printf "%s://%s:$(REDIS_PASSWORD)@%s" $parts._0 (.Values.redis.username | default "") $parts._1 }}
{{- else }}
{{- $url }}
{{- end }}
{{- end }}

{{/* keybroker.toml, as the ConfigMap has it. */}}
{{- define "keybroker.toml" -}}
{{- with .Values.config }}{{ . | trim }}
{{ end }}
{{- if .Values.tls.enabled }}
[tls]
cert_file = "/etc/keybroker/tls/tls.crt"
key_file = "/etc/keybroker/tls/tls.key"
{{- with .Values.tls.clientCaKey }}
client_ca_file = "/etc/keybroker/tls/{{ . }}"
{{- end }}
{{ end }}
{{- if .Values.jwt.issuer }}
[jwt]
issuer = {{ .Values.jwt.issuer | toJson }}
audience = {{ .Values.jwt.audience | toJson }}
jwks_file = "/etc/keybroker/config/jwks.json"
{{ end }}
{{- range .Values.identities }}
[[identities]]
{{- range $field, $value := . }}
{{ $field }} = {{ $value | toJson }}
{{- end }}
{{ end }}
{{- end }}

{{/* How many brokers there are at least, where no autoscaler says so. */}}
{{- define "keybroker.replicas" -}}
{{- if .Values.embedded.enabled }}1{{ else }}{{ .Values.replicas | default 2 | int }}{{ end }}
{{- end }}

{{/*
How many brokers an autoscaler finds: those that run, whoever said how many, or else the fewest. A Deployment that says nothing
would fall to one broker when autoscaling is turned on. Nothing is said where there is no cluster to ask.
*/}}
{{- define "keybroker.replicasToScale" -}}
{{- if .Capabilities.APIVersions.Has "apps/v1/Deployment" }}
{{- $running := lookup "apps/v1" "Deployment" .Release.Namespace (include "keybroker.fullname" .) }}
{{- dig "spec" "replicas" .Values.autoscaling.minReplicas $running | int }}
{{- end }}
{{- end }}

{{/* The port of an address such as host:6379, if it names one: list of the address and the usual port. */}}
{{- define "keybroker.port" -}}
{{- index . 0 | regexFind `:[0-9]+$` | trimPrefix ":" | default (index . 1) }}
{{- end }}

{{/* Ports of Redis and its Sentinels, as a list in JSON. */}}
{{- define "keybroker.redisPorts" -}}
{{- $ports := list }}
{{- range .Values.networkPolicy.redisPorts }}{{ $ports = append $ports (int .) }}{{ end }}
{{- $url := .Values.redis.url }}
{{- $sentinels := regexMatch `^rediss?-sentinel:` $url }}
{{- if and (not $ports) $url }}
{{- range regexReplaceAll `^[^:]+://|[/?#].*$` $url "" | splitList "," }}
{{- $ports = append $ports (include "keybroker.port" (list (trim .) (ternary 26379 6379 $sentinels)) | int) }}
{{- end }}
{{- end }}
{{- if and (not .Values.networkPolicy.redisPorts) (or $sentinels (not $url)) }}
{{- $ports = append $ports 6379 }}
{{- if not $url }}{{ $ports = append $ports 26379 }}{{ end }}
{{- end }}
{{- $ports | uniq | toJson }}
{{- end }}

{{/* Port of the collector. */}}
{{- define "keybroker.otlpPort" -}}
{{- $endpoint := .Values.otlp.endpoint }}
{{- $usual := ternary 443 80 (hasPrefix "https:" $endpoint) }}
{{- $named := include "keybroker.port" (list (regexReplaceAll `^[^:]+://|[/?#].*$` $endpoint "") $usual) }}
{{- .Values.networkPolicy.otlpPort | default $named | int }}
{{- end }}

{{/* A quantity such as 512Mi in bytes; nothing of one that is not understood. */}}
{{- define "keybroker.bytes" -}}
{{- $text := ternary . (printf "%d" (int64 .)) (kindIs "string" .) }}
{{- $number := regexFind `^[0-9]+(\.[0-9]+)?` $text }}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- $unit := trimPrefix $number $text }}
{{- if and $number (hasKey $units $unit) }}{{ mulf (float64 $number) (get $units $unit) | int64 }}{{ end }}
{{- end }}

{{- define "keybroker.terminationGrace" -}}
{{- if .Values.terminationGracePeriodSeconds }}{{ .Values.terminationGracePeriodSeconds | int }}
{{- else }}{{ add .Values.preStopSleep .Values.broker.drainGrace 10 }}{{ end }}
{{- end }}

{{/* What a container may do: nothing but run. */}}
{{- define "keybroker.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The address of the brokers for clients of the cluster. */}}
{{- define "keybroker.address" -}}
{{ ternary "https" "http" .Values.tls.enabled }}://{{ include "keybroker.fullname" . }}:{{ .Values.broker.grpcPort | int }}
{{- end }}
