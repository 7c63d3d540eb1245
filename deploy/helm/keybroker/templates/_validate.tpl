{{/*
What a schema cannot say, or cannot say in words: every fault with the value that is to be changed. All are told at once.
*/}}
{{- define "keybroker.validate" -}}
{{- $faults := list }}
{{- $v := .Values }}
{{- $unseen := include "keybroker.unseenConfig" . }}
{{- $identities := include "keybroker.identities" . }}

{{- /* The ledger */}}
{{- $ledgers := list }}
{{- if $v.embedded.enabled }}{{ $ledgers = append $ledgers "embedded.enabled" }}{{ end }}
{{- if $v.redis.url }}{{ $ledgers = append $ledgers "redis.url" }}{{ end }}
{{- if $v.redis.urlSecret.name }}{{ $ledgers = append $ledgers "redis.urlSecret.name" }}{{ end }}
{{- if $v.redis.bundled.enabled }}{{ $ledgers = append $ledgers "redis.bundled.enabled" }}{{ end }}
{{- if not $ledgers }}
{{- $faults = append $faults "no ledger: set redis.url (production), redis.bundled.enabled=true (a trial), or embedded.enabled=true (one broker with a volume)" }}
{{- else if gt (len $ledgers) 1 }}
{{- $faults = append $faults (printf "several ledgers: %s; leave one of them" (join ", " $ledgers)) }}
{{- end }}
{{- if $v.embedded.enabled }}
{{- if $v.autoscaling.enabled }}{{ $faults = append $faults "autoscaling.enabled with embedded.enabled: an embedded ledger is for one broker; use Redis, or leave autoscaling away" }}{{ end }}
{{- if gt (int ($v.replicas | default 1)) 1 }}{{ $faults = append $faults "replicas with embedded.enabled: an embedded ledger is for one broker; use Redis, or leave replicas away" }}{{ end }}
{{- end }}
{{- if and $v.redis.url (contains "@" $v.redis.url) }}
{{- $faults = append $faults "redis.url holds a user or a password: set redis.username and redis.existingSecret, or have the whole URL in redis.urlSecret" }}
{{- end }}
{{- if and $v.redis.username (not $v.redis.existingSecret) }}
{{- $faults = append $faults "redis.username without a password: set redis.existingSecret" }}
{{- end }}
{{- if and (or $v.redis.username $v.redis.existingSecret) $v.redis.urlSecret.name }}
{{- $faults = append $faults "redis.username and redis.existingSecret are not used with redis.urlSecret, whose URL holds both: leave them away" }}
{{- end }}
{{- if and (or $v.redis.username $v.redis.existingSecret) $v.embedded.enabled }}
{{- $faults = append $faults "redis.username and redis.existingSecret are of no use with embedded.enabled: leave them away" }}
{{- end }}
{{- if and $v.redis.tls.existingSecret (not (hasPrefix "rediss" $v.redis.url)) (not $v.redis.urlSecret.name) }}
{{- $faults = append $faults "redis.tls.existingSecret without TLS: write rediss://, rediss-sentinel:// or rediss-cluster:// in redis.url" }}
{{- end }}
{{- if ne (empty $v.redis.tls.certKey) (empty $v.redis.tls.keyKey) }}
{{- $faults = append $faults "redis.tls.certKey and redis.tls.keyKey go together: give both or none" }}
{{- end }}
{{- if $v.redis.bundled.enabled }}
{{- if $v.redis.username }}{{ $faults = append $faults "redis.username with redis.bundled.enabled: it has the default user alone; leave it away" }}{{ end }}
{{- if and $v.redis.bundled.password $v.redis.existingSecret }}{{ $faults = append $faults "redis.bundled.password and redis.existingSecret: leave one of them" }}{{ end }}
{{- if not (or $v.redis.bundled.password $v.redis.existingSecret) }}{{ $faults = append $faults "redis.bundled.enabled without a password: set redis.bundled.password, or redis.existingSecret" }}{{ end }}
{{- else if $v.redis.bundled.password }}
{{- $faults = append $faults "redis.bundled.password without redis.bundled.enabled: for a Redis of your own set redis.existingSecret" }}
{{- end }}

{{- /* The configuration and keys */}}
{{- $configs := list }}
{{- if $v.config }}{{ $configs = append $configs "config" }}{{ end }}
{{- if $v.existingConfigMap }}{{ $configs = append $configs "existingConfigMap" }}{{ end }}
{{- if $v.existingConfigSecret }}{{ $configs = append $configs "existingConfigSecret" }}{{ end }}
{{- if gt (len $configs) 1 }}{{ $faults = append $faults (printf "several configurations: %s; leave one of them" (join ", " $configs)) }}{{ end }}
{{- if and $unseen (or $v.identities $v.jwt.issuer) }}
{{- $faults = append $faults "identities and jwt cannot be added to existingConfigMap or existingConfigSecret: write them there" }}
{{- end }}
{{- if regexMatch `(?m)^[ \t]*\[[ \t]*tls[ \t]*\]` $v.config }}
{{- $faults = append $faults "config has [tls], which the chart writes: set tls.enabled with tls.existingSecret or tls.certManager, and take it out" }}
{{- end }}
{{- if and $v.jwt.issuer (regexMatch `(?m)^[ \t]*\[[ \t]*jwt[ \t]*\]` $v.config) }}
{{- $faults = append $faults "jwt.issuer is set and config has [jwt]: leave one of them" }}
{{- end }}
{{- if ne (empty $v.jwt.issuer) (empty $v.jwt.jwks) }}
{{- $faults = append $faults "jwt.issuer and jwt.jwks go together: give both or none" }}
{{- end }}
{{- if regexMatch `AIza[0-9A-Za-z_-]{30}|AQ\.[0-9A-Za-z_-]{40}` $v.config }}
{{- $faults = append $faults "config holds the text of a key, and a ConfigMap can be read by many: put it into keys.existingSecret, and write secret = \"file:/etc/keybroker/keys/ENTRY\"" }}
{{- end }}
{{- if and $v.keys.existingSecret $v.keys.values }}{{ $faults = append $faults "keys.existingSecret and keys.values: leave one of them" }}{{ end }}
{{- if and $v.keys.file (not (or $v.keys.existingSecret $v.keys.values)) }}{{ $faults = append $faults "keys.file names an entry of no Secret: set keys.existingSecret" }}{{ end }}
{{- if and $v.keys.file $v.keys.values (not (hasKey $v.keys.values $v.keys.file)) }}{{ $faults = append $faults (printf "keys.file names %s, which keys.values has not" $v.keys.file) }}{{ end }}
{{- if not (or $configs $v.keys.file $v.masterKey.existingSecret $v.extraEnv $v.extraEnvFrom) }}
{{- $faults = append $faults "no keys: set config (--set-file config=keybroker.toml) with keys.existingSecret, or keys.file with keys.existingSecret, or masterKey.existingSecret to create keys at run time" }}
{{- end }}
{{- if and $v.masterKey.oldKey (not $v.masterKey.existingSecret) }}{{ $faults = append $faults "masterKey.oldKey names an entry of no Secret: set masterKey.existingSecret" }}{{ end }}

{{- /* Who may call */}}
{{- if $v.tls.enabled }}
{{- if and $v.tls.existingSecret $v.tls.certManager.enabled }}{{ $faults = append $faults "tls.existingSecret and tls.certManager.enabled: leave one of them" }}{{ end }}
{{- if not (or $v.tls.existingSecret $v.tls.certManager.enabled) }}{{ $faults = append $faults "tls.enabled without a certificate: set tls.existingSecret, or tls.certManager.enabled=true" }}{{ end }}
{{- if and $v.tls.certManager.enabled (not $v.tls.certManager.issuerRef.name) }}{{ $faults = append $faults "tls.certManager.enabled without tls.certManager.issuerRef.name" }}{{ end }}
{{- else if or $v.tls.existingSecret $v.tls.certManager.enabled $v.tls.clientCaKey }}
{{- $faults = append $faults "tls.existingSecret, tls.certManager and tls.clientCaKey are of no use without tls.enabled=true" }}
{{- end }}
{{- if not $v.insecure }}
{{- if not $v.tls.enabled }}{{ $faults = append $faults "no encryption: a pod is reached by others, so keys and tokens could be read on their way; set tls.enabled=true with tls.existingSecret or tls.certManager, or insecure=true for a trial" }}{{ end }}
{{- if not (or $identities $unseen) }}{{ $faults = append $faults "nobody is asked who calls, so whoever reaches a pod has the keys; set identities (or [[identities]] in config), or insecure=true for a trial" }}{{ end }}
{{- else if and $v.tls.enabled $identities }}
{{- $faults = append $faults "insecure=true is said though there are tls and identities: take insecure out" }}
{{- end }}
{{- $withNames := list }}
{{- $withSubjects := list }}
{{- range $number, $identity := $v.identities }}
{{- $who := printf "identities[%d] (%s)" $number .name }}
{{- range .token_sha256 }}
{{- if not (regexMatch `^[0-9a-fA-F]{64}$` .) }}{{ $faults = append $faults (printf "%s has %s in token_sha256: write the digest that keybroker generate-token prints there, 64 hexadecimal digits, and give the token to whom it is for" $who .) }}{{ end }}
{{- end }}
{{- if .certificate_names }}{{ $withNames = append $withNames $who }}{{ end }}
{{- if .token_subjects }}{{ $withSubjects = append $withSubjects $who }}{{ end }}
{{- end }}
{{- if regexMatch `(?m)^[ \t]*certificate_names[ \t]*=` $v.config }}{{ $withNames = append $withNames "config" }}{{ end }}
{{- if regexMatch `(?m)^[ \t]*token_subjects[ \t]*=` $v.config }}{{ $withSubjects = append $withSubjects "config" }}{{ end }}
{{- if and $withNames (not $v.tls.clientCaKey) (not $unseen) }}
{{- $faults = append $faults (printf "certificate_names in %s, but no certificates of clients are asked for: set tls.clientCaKey, the entry of the Secret with the authority that signs them" (join ", " $withNames)) }}
{{- end }}
{{- if and $withSubjects (not $v.jwt.issuer) (not $unseen) (not (regexMatch `(?m)^[ \t]*\[[ \t]*jwt[ \t]*\]` $v.config)) }}
{{- $faults = append $faults (printf "token_subjects in %s, but no signed tokens are taken: set jwt.issuer and jwt.jwks" (join ", " $withSubjects)) }}
{{- end }}
{{- if ne $v.service.type "ClusterIP" }}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.clients) }}{{ $faults = append $faults (printf "service.type=%s with networkPolicy.enabled lets in nobody from outside: set networkPolicy.clients, such as [{ipBlock: {cidr: 10.0.0.0/8}}]" $v.service.type) }}{{ end }}
{{- if or $v.insecure (not $v.tls.enabled) (not (or $identities $unseen)) }}{{ $faults = append $faults (printf "service.type=%s without tls and identities would give the keys to the public: set both, and take insecure out, or leave service.type=ClusterIP" $v.service.type) }}{{ end }}
{{- end }}
{{- if and $v.service.loadBalancerSourceRanges (ne $v.service.type "LoadBalancer") }}{{ $faults = append $faults "service.loadBalancerSourceRanges are of no use without service.type=LoadBalancer" }}{{ end }}

{{- /* How many, and how they end */}}
{{- if $v.autoscaling.enabled }}
{{- if $v.replicas }}{{ $faults = append $faults "replicas and autoscaling.enabled: the autoscaler says how many there are; leave replicas away, and set autoscaling.minReplicas" }}{{ end }}
{{- if gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas) }}{{ $faults = append $faults "autoscaling.minReplicas is more than autoscaling.maxReplicas" }}{{ end }}
{{- if not (or $v.autoscaling.cpuPercent $v.autoscaling.podsMetric.name) }}{{ $faults = append $faults "autoscaling.enabled by nothing: set autoscaling.cpuPercent or autoscaling.podsMetric.name" }}{{ end }}
{{- if and $v.autoscaling.cpuPercent (not (dig "requests" "cpu" "" $v.resources)) }}{{ $faults = append $faults "autoscaling.cpuPercent is a part of resources.requests.cpu, which is not set" }}{{ end }}
{{- end }}
{{- $needed := add $v.preStopSleep $v.broker.drainGrace }}
{{- if $v.terminationGracePeriodSeconds }}
{{- if le (int $v.terminationGracePeriodSeconds) (int $needed) }}{{ $faults = append $faults (printf "terminationGracePeriodSeconds must be more than preStopSleep and broker.drainGrace together (%d), or brokers are killed while they drain" $needed) }}{{ end }}
{{- end }}
{{- if eq (int $v.broker.grpcPort) (int $v.broker.httpPort) }}{{ $faults = append $faults "broker.grpcPort and broker.httpPort are the same" }}{{ end }}

{{- /* Who looks */}}
{{- if and $v.monitoring.serviceMonitor.enabled $identities (not $v.monitoring.serviceMonitor.tokenSecret.name) }}
{{- $faults = append $faults "monitoring.serviceMonitor without a token: /metrics needs an identity with the role viewer; set monitoring.serviceMonitor.tokenSecret.name" }}
{{- end }}

{{- /* What is added to objects, and their names */}}
{{- $fullname := include "keybroker.fullname" . }}
{{- if not (regexMatch `^[a-z]([-a-z0-9]*[a-z0-9])?$` $fullname) }}
{{- $faults = append $faults (printf "%s cannot be the name of a Service, which begins with a letter and has small letters, digits and dashes: set fullnameOverride" $fullname) }}
{{- end }}
{{- /* The chart sets these, or leaves them away because of what its values say. */}}
{{- $variables := list "KEYBROKER_CONFIG" "KEYBROKER_DATA_DIR" "KEYBROKER_INSECURE" "KEYBROKER_MASTER_KEY" "KEYBROKER_REDIS_URL" }}
{{- range include "keybroker.env" . | fromYamlArray }}{{ $variables = append $variables .name }}{{ end }}
{{- range $v.extraEnv }}
{{- if has .name $variables }}{{ $faults = append $faults (printf "extraEnv has %s, which the chart sets: use its value" .name) }}{{ end }}
{{- end }}
{{- $labels := include "keybroker.labels" (list . "broker") | fromYaml }}
{{- range $label, $_ := $v.podLabels }}
{{- if hasKey $labels $label }}{{ $faults = append $faults (printf "podLabels has %s, by which Services find the pods, or which is the chart's own: take it out" $label) }}{{ end }}
{{- end }}
{{- range $annotation, $_ := $v.podAnnotations }}
{{- if has $annotation (list "keybroker/access" "checksum/redis-password") }}{{ $faults = append $faults (printf "podAnnotations has %s, which is the chart's own: take it out" $annotation) }}{{ end }}
{{- end }}
{{- $volumes := list }}
{{- if $v.embedded.enabled }}{{ $volumes = append $volumes "data" }}{{ end }}
{{- range include "keybroker.volumes" . | fromYamlArray }}{{ $volumes = append $volumes .name }}{{ end }}
{{- range $v.extraVolumes }}
{{- if has .name $volumes }}{{ $faults = append $faults (printf "extraVolumes has %s, which is a volume of the chart: give it another name" .name) }}{{ end }}
{{- end }}
{{- $paths := list }}
{{- range include "keybroker.volumeMounts" . | fromYamlArray }}{{ $paths = append $paths .mountPath }}{{ end }}
{{- range $v.extraVolumeMounts }}
{{- if has (trimSuffix "/" .mountPath) $paths }}{{ $faults = append $faults (printf "extraVolumeMounts has %s, where the chart mounts something: mount it elsewhere" .mountPath) }}{{ end }}
{{- end }}
{{- range $v.extraContainers }}
{{- if eq .name "keybroker" }}{{ $faults = append $faults "extraContainers has keybroker, which is the broker: give it another name" }}{{ end }}
{{- end }}

{{- if $faults }}
{{- fail (printf "\n\nkeybroker cannot be installed like this:\n- %s\n\nComplete sets of values are in the chart's folder examples/.\n" (join "\n- " $faults)) }}
{{- end }}
{{- end }}
