{{/* The configuration as it is, but that a daemon in a pod listens where its probes can reach it. */}}
{{- define "idkeep.config" -}}
{{- if not .Values.config -}}
{{- fail "config is missing: the configuration of idkeep, as docs/src/reference/configuration.md describes it" -}}
{{- end -}}
{{- if not .Values.config.nodes -}}
{{- fail "config.nodes is missing: no node is configured" -}}
{{- end -}}
{{- $_ := include "idkeep.port" . -}}
{{- $_ := include "idkeep.refuseSecrets" (list "config" .Values.config) -}}
{{- range $name, $text := .Values.files -}}
{{- if regexMatch (include "idkeep.privateKey" $) $text -}}
{{- include "idkeep.secretFound" (printf "files.%s" $name) -}}
{{- end -}}
{{- end -}}
{{- $config := deepCopy .Values.config -}}
{{- if eq .Values.mode "deployment" -}}
{{- $server := dict "listen" "0.0.0.0:9464" -}}
{{- $_ := set $config "server" (mergeOverwrite $server (get $config "server" | default dict)) -}}
{{- if not $config.schedule -}}
{{- fail "config.schedule is missing: in mode deployment it says what is done when, such as schedule: {identities: {every: 10m}}" -}}
{{- end -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/*
A secret in a value is in the release and in a ConfigMap before `idkeep check` refuses it there, so what that refuses is
refused here, too: the user of an address, a password among its parameters, a field that is a secret. A list of the
value's path and the value, which is never said.
*/}}
{{- define "idkeep.refuseSecrets" -}}
{{- $path := index . 0 -}}
{{- $value := index . 1 -}}
{{- if kindIs "map" $value -}}
{{- range $key, $inner := $value -}}
{{- $here := printf "%s.%s" $path $key -}}
{{- if and (hasSuffix ".oauth2.extra_params" $path) (has $key (list "client_secret" "client_assertion" "password" "refresh_token")) -}}
{{- include "idkeep.secretFound" $here -}}
{{- end -}}
{{- include "idkeep.refuseSecrets" (list $here $inner) -}}
{{- end -}}
{{- else if kindIs "slice" $value -}}
{{- range $index, $inner := $value -}}
{{- include "idkeep.refuseSecrets" (list (printf "%s[%d]" $path $index) $inner) -}}
{{- end -}}
{{- else if kindIs "string" $value -}}
{{- $user := regexMatch `(?i)^\s*https?:[/\\]*[^/?#\\]*@` $value -}}
{{- $password := regexMatch `(?i)^\s*[a-z][a-z0-9+.-]*://[^/?#]*:[^/?#]*@` $value -}}
{{- $noPort := regexMatch `(?i)^\s*[a-z][a-z0-9+.-]*://[^/?#@:\[]*:[0-9]*[^0-9/?#@]` $value -}}
{{- $parameter := regexMatch `(?i)(password|client_secret|scram_client_key|scram_server_key)\s*=` $value -}}
{{- if or $user $password $noPort $parameter (regexMatch (include "idkeep.privateKey" .) $value) -}}
{{- include "idkeep.secretFound" $path -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "idkeep.privateKey" -}}(?i)-----BEGIN [A-Z ]*PRIVATE KEY|AGE-SECRET-KEY-1{{- end -}}

{{- define "idkeep.secretFound" -}}
{{- fail (printf "%s holds a secret, which everybody who reads the ConfigMap would have: take it out, mount it (`secrets`) and refer to it, and change it" .) -}}
{{- end -}}

{{/* The port that the daemon listens on. What `idkeep check` refuses would be nobody's port; any free one (0) no probe finds. */}}
{{- define "idkeep.port" -}}
{{- $listen := (.Values.config.server).listen | default "0.0.0.0:9464" -}}
{{- $port := regexFind "[0-9]+$" $listen | atoi -}}
{{- if or (not (regexMatch "^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}|\\[[0-9a-fA-F:.]+\\]):[0-9]{1,5}$" $listen)) (gt $port 65535) (and (eq $port 0) (include "idkeep.isReachable" .)) -}}
{{- fail (printf "config.server.listen is %q: an address and a port are wanted, such as 0.0.0.0:9464 or [::]:9464; a name is none" $listen) -}}
{{- end -}}
{{- $port -}}
{{- end -}}

{{/* Not empty where a daemon can be reached: its probes and its metrics. Told to listen on loopback, it has neither. */}}
{{- define "idkeep.isReachable" -}}
{{- if and (eq .Values.mode "deployment") (not (regexMatch "^(127\\.|\\[::1\\])" ((.Values.config.server).listen | default "0.0.0.0:9464"))) -}}yes{{- end -}}
{{- end -}}

{{/* Not empty where a node has backups. */}}
{{- define "idkeep.hasBackups" -}}
{{- range $name, $node := .Values.config.nodes -}}
{{- if $node.backup -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{/* Not empty where a database is dumped over a connection of the pod's own. */}}
{{- define "idkeep.usesPgDump" -}}
{{- range $name, $node := .Values.config.nodes -}}
{{- range ($node.backup).databases -}}
{{- if not .pg_dump.exec -}}yes{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Not empty where the API server is talked to: a store that is this cluster's Secrets, `kubectl exec`. */}}
{{- define "idkeep.usesCluster" -}}
{{- range $name, $store := .Values.config.stores -}}
{{- if hasKey $store "kubernetes" -}}
{{- if not $store.kubernetes.kubeconfig -}}yes{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $node := .Values.config.nodes -}}
{{- range ($node.backup).databases -}}
{{- $programs := list (first (.pg_dump.exec | default list)) (first ((.pg_dump.database).exec | default list)) -}}
{{- range compact $programs -}}
{{- if eq (base .) "kubectl" -}}yes{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" where the pod gets the API server's token. */}}
{{- define "idkeep.automount" -}}
{{- if kindIs "bool" .Values.serviceAccount.automount -}}
{{- .Values.serviceAccount.automount -}}
{{- else -}}
{{- not (not (include "idkeep.usesCluster" .)) -}}
{{- end -}}
{{- end -}}

{{/* Not empty where a Vault store logs in with the token at `vaultToken.path`. */}}
{{- define "idkeep.usesVaultToken" -}}
{{- $path := .Values.vaultToken.path -}}
{{- range $name, $store := .Values.config.stores -}}
{{- $auth := ($store.vault).auth -}}
{{- with ($auth).kubernetes -}}
{{- if eq (.token_file | default "/var/run/secrets/kubernetes.io/serviceaccount/token") $path -}}yes{{- end -}}
{{- end -}}
{{- if eq ((($auth).jwt).token).file $path -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" where the pod gets a token for Vault alone. */}}
{{- define "idkeep.vaultToken" -}}
{{- $isAutomounted := eq (include "idkeep.automount" .) "true" -}}
{{- $isThere := and $isAutomounted (hasPrefix "/var/run/secrets/kubernetes.io/serviceaccount/" .Values.vaultToken.path) -}}
{{- if kindIs "bool" .Values.vaultToken.enabled -}}
{{- if and .Values.vaultToken.enabled $isThere -}}
{{- fail "vaultToken.path is where the API server's token is mounted, which this configuration needs, too: choose another path, and name it as the Vault store's token_file" -}}
{{- end -}}
{{- .Values.vaultToken.enabled -}}
{{- else -}}
{{- and (not (not (include "idkeep.usesVaultToken" .))) (not $isThere) -}}
{{- end -}}
{{- end -}}
