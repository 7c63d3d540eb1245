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
{{- if .Values.embedded.enabled }}1{{ else }}{{ .Values.replicas | default 2 }}{{ end }}
{{- end }}

{{- define "keybroker.terminationGrace" -}}
{{- if .Values.terminationGracePeriodSeconds }}{{ .Values.terminationGracePeriodSeconds }}
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
{{ ternary "https" "http" .Values.tls.enabled }}://{{ include "keybroker.fullname" . }}:{{ .Values.broker.grpcPort }}
{{- end }}
