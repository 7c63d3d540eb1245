{{/* Metadata and spec of a broker's pod, for the Deployment and the StatefulSet. */}}
{{- define "keybroker.podTemplate" -}}
{{- $v := .Values }}
{{- $name := include "keybroker.fullname" . }}
{{- $scheme := ternary "HTTPS" "HTTP" $v.tls.enabled }}
metadata:
  labels:
    {{- include "keybroker.labels" (list . "broker") | nindent 4 }}
    {{- with $v.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Whether it encrypts, and whether it asks who calls, cannot change while a broker runs. All else is reloaded.
    keybroker/access: {{ printf "tls=%t identities=%t" $v.tls.enabled (not (empty (include "keybroker.identities" .))) | quote }}
    {{- if and $v.redis.bundled.enabled $v.redis.bundled.password }}
    checksum/redis-password: {{ $v.redis.bundled.password | sha256sum }}
    {{- end }}
    {{- with $v.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "keybroker.serviceAccount" . }}
  automountServiceAccountToken: false
  # Else the cluster puts variables such as KEYBROKER_PORT into the pod.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "keybroker.terminationGrace" . }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- with $v.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $v.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $spread := list }}
  {{- if not $v.embedded.enabled }}
  {{- range $key, $when := dict "topology.kubernetes.io/zone" $v.spread.zone "kubernetes.io/hostname" $v.spread.host }}
  {{- if ne $when "off" }}
  {{- $labels := include "keybroker.selector" (list $ "broker") | fromYaml }}
  {{- $spread = append $spread (dict "maxSkew" 1 "topologyKey" $key "whenUnsatisfiable" $when "labelSelector" (dict "matchLabels" $labels) "matchLabelKeys" (list "pod-template-hash")) }}
  {{- end }}
  {{- end }}
  {{- end }}
  {{- with concat $spread $v.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: keybroker
      image: {{ include "keybroker.image" . }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: [serve]
      securityContext:
        {{- include "keybroker.containerSecurity" . | nindent 8 }}
      ports:
        - name: grpc
          containerPort: {{ $v.broker.grpcPort | int }}
        - name: http
          containerPort: {{ $v.broker.httpPort | int }}
      env:
        {{- include "keybroker.env" . | trim | nindent 8 }}
        {{- with $v.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $v.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      # The process runs: anybody may ask, so no probe has a token.
      startupProbe:
        httpGet: {path: /healthz, port: http, scheme: {{ $scheme }}}
        {{- toYaml $v.probes.startup | nindent 8 }}
      livenessProbe:
        httpGet: {path: /healthz, port: http, scheme: {{ $scheme }}}
        {{- toYaml $v.probes.liveness | nindent 8 }}
      # Leases can be had: the ledger answers, and the broker does not drain.
      readinessProbe:
        httpGet: {path: /readyz, port: http, scheme: {{ $scheme }}}
        {{- toYaml $v.probes.readiness | nindent 8 }}
      {{- if $v.preStopSleep }}
      # Leases go on until every Service has forgotten the pod; then SIGTERM, and the broker drains by itself.
      lifecycle:
        preStop:
          sleep:
            seconds: {{ $v.preStopSleep | int }}
      {{- end }}
      {{- with $v.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        {{- include "keybroker.volumeMounts" . | trim | nindent 8 }}
        {{- with $v.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $v.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "keybroker.volumes" . | trim | nindent 4 }}
    {{- with $v.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "keybroker.env" -}}
{{- $v := .Values }}
- name: POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
{{- if or (include "keybroker.toml" .) (include "keybroker.unseenConfig" .) }}
- name: KEYBROKER_CONFIG
  value: /etc/keybroker/config/keybroker.toml
{{- end }}
- name: KEYBROKER_GRPC_ADDR
  value: {{ printf "%s:%d" $v.broker.bindAddress (int $v.broker.grpcPort) | quote }}
- name: KEYBROKER_HTTP_ADDR
  value: {{ printf "%s:%d" $v.broker.bindAddress (int $v.broker.httpPort) | quote }}
{{- if $v.insecure }}
- name: KEYBROKER_INSECURE
  value: "true"
{{- end }}
{{- if $v.embedded.enabled }}
- name: KEYBROKER_DATA_DIR
  value: /var/lib/keybroker/data
- name: KEYBROKER_DATA_SYNC
  value: {{ $v.embedded.dataSync }}
{{- else }}
{{- if $v.redis.urlSecret.name }}
- name: KEYBROKER_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ $v.redis.urlSecret.name }}
      key: {{ $v.redis.urlSecret.key }}
{{- else }}
{{- with include "keybroker.redisPasswordSecret" . }}
# Must stand before the URL that it is put into.
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $v.redis.passwordKey }}
{{- end }}
- name: KEYBROKER_REDIS_URL
  value: {{ include "keybroker.redisUrl" . | quote }}
{{- end }}
{{- if $v.redis.tls.existingSecret }}
{{- with $v.redis.tls.caKey }}
- name: KEYBROKER_REDIS_CA
  value: /etc/keybroker/redis-tls/{{ . }}
{{- end }}
{{- if $v.redis.tls.certKey }}
- name: KEYBROKER_REDIS_CERT
  value: /etc/keybroker/redis-tls/{{ $v.redis.tls.certKey }}
- name: KEYBROKER_REDIS_KEY
  value: /etc/keybroker/redis-tls/{{ $v.redis.tls.keyKey }}
{{- end }}
{{- end }}
- name: KEYBROKER_DURABILITY
  value: {{ $v.redis.durability }}
{{- end }}
{{- with $v.keys.file }}
- name: KEYBROKER_KEY_FILE
  value: /etc/keybroker/keys/{{ . }}
{{- end }}
{{- if $v.masterKey.existingSecret }}
- name: KEYBROKER_MASTER_KEY
  value: file:/etc/keybroker/master-key/{{ $v.masterKey.key }}
{{- with $v.masterKey.oldKey }}
- name: KEYBROKER_MASTER_KEY_OLD
  value: file:/etc/keybroker/master-key/{{ . }}
{{- end }}
{{- end }}
{{- with $v.broker.consumerRateLimit }}
- name: KEYBROKER_CONSUMER_RATE_LIMIT
  value: {{ kindIs "string" . | ternary . (int . | toString) | quote }}
{{- end }}
- name: KEYBROKER_DRAIN_GRACE
  value: {{ $v.broker.drainGrace | int | toString | quote }}
- name: KEYBROKER_MAX_CONNECTIONS
  value: {{ $v.broker.maxConnections | int | toString | quote }}
- name: KEYBROKER_MAX_CONNECTION_AGE
  value: {{ $v.broker.maxConnectionAge | int | toString | quote }}
- name: KEYBROKER_LOG
  value: {{ $v.broker.log | quote }}
- name: KEYBROKER_LOG_FORMAT
  value: {{ $v.broker.logFormat }}
{{- if $v.broker.leaseLog.enabled }}
- name: KEYBROKER_LEASE_LOG
  value: /var/log/keybroker/leases.jsonl
{{- end }}
{{- if $v.otlp.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ $v.otlp.endpoint | quote }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ $v.otlp.tracesSampleRatio | toString | quote }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.pod.name=$(POD_NAME),k8s.namespace.name={{ .Release.Namespace }}
{{- if not $v.otlp.metrics }}
- name: OTEL_METRICS_EXPORTER
  value: none
{{- end }}
{{- end }}
{{- end }}

{{- define "keybroker.volumeMounts" -}}
{{- $v := .Values }}
- {name: tmp, mountPath: /tmp}
{{- if or (include "keybroker.toml" .) (include "keybroker.unseenConfig" .) }}
- {name: config, mountPath: /etc/keybroker/config, readOnly: true}
{{- end }}
{{- if include "keybroker.keysSecret" . }}
- {name: keys, mountPath: /etc/keybroker/keys, readOnly: true}
{{- end }}
{{- if $v.masterKey.existingSecret }}
- {name: master-key, mountPath: /etc/keybroker/master-key, readOnly: true}
{{- end }}
{{- if $v.tls.enabled }}
- {name: tls, mountPath: /etc/keybroker/tls, readOnly: true}
{{- end }}
{{- if $v.redis.tls.existingSecret }}
- {name: redis-tls, mountPath: /etc/keybroker/redis-tls, readOnly: true}
{{- end }}
{{- if $v.broker.leaseLog.enabled }}
- {name: lease-log, mountPath: /var/log/keybroker}
{{- end }}
{{- if $v.embedded.enabled }}
- {name: data, mountPath: /var/lib/keybroker}
{{- end }}
{{- end }}

{{- define "keybroker.volumes" -}}
{{- $v := .Values }}
{{- $name := include "keybroker.fullname" . }}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- if $v.existingConfigSecret }}
- name: config
  secret: {secretName: {{ $v.existingConfigSecret }}, defaultMode: 0440}
{{- else if $v.existingConfigMap }}
- name: config
  configMap: {name: {{ $v.existingConfigMap }}}
{{- else if include "keybroker.toml" . }}
- name: config
  configMap: {name: {{ $name }}}
{{- end }}
{{- with include "keybroker.keysSecret" . }}
- name: keys
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with $v.masterKey.existingSecret }}
- name: master-key
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- if $v.tls.enabled }}
- name: tls
  secret: {secretName: {{ include "keybroker.tlsSecret" . }}, defaultMode: 0440}
{{- end }}
{{- with $v.redis.tls.existingSecret }}
- name: redis-tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- if $v.broker.leaseLog.enabled }}
- name: lease-log
  emptyDir: {sizeLimit: {{ $v.broker.leaseLog.sizeLimit }}}
{{- end }}
{{- end }}
