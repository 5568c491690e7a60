{{/*
The ports that the configuration's addresses name, sorted, as JSON. A policy cannot name hosts, and sees a Service's
port as that of its pods.
*/}}
{{- define "idkeep.ports" -}}
{{- $config := .Values.config -}}
{{- $found := list -}}
{{- $addresses := list -}}
{{- range $name, $node := $config.nodes -}}
{{- $addresses = append $addresses $node.identity.endpoint -}}
{{- $addresses = append $addresses ($node.identity.proxy).url -}}
{{- $oauth := $node.identity.auth.oauth2 | default dict -}}
{{- $addresses = concat $addresses (list (get $oauth "issuer") (get $oauth "token_url") ($oauth.proxy).url) -}}
{{- range ($node.backup).databases -}}
{{- if not .pg_dump.exec -}}
{{- $addresses = append $addresses (.pg_dump.url | default "") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $store := $config.stores -}}
{{- range $kind, $settings := $store -}}
{{- $addresses = append $addresses ($settings.proxy).url -}}
{{- if eq $kind "vault" -}}
{{- $addresses = append $addresses $settings.address -}}
{{- else if eq $kind "azure" -}}
{{- $addresses = concat $addresses (list $settings.vault_url "https://login") -}}
{{- else if has $kind (list "aws" "gcp") -}}
{{- $addresses = concat $addresses (list (get $settings "endpoint") "https://cloud") -}}
{{- else if eq $kind "kubernetes" -}}
{{- $found = concat $found (list 443 6443) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $repository := $config.repositories -}}
{{- if not (hasPrefix "file:" $repository.url) -}}
{{- $addresses = concat $addresses (list (get $repository "endpoint") ($repository.proxy).url "https://cloud") -}}
{{- end -}}
{{- end -}}
{{- with $config.heartbeat -}}
{{- $addresses = concat $addresses (list (.proxy).url "https://heartbeat") -}}
{{- end -}}
{{- if include "idkeep.usesCluster" . -}}
{{- $found = concat $found (list 443 6443) -}}
{{- end -}}
{{- range compact $addresses -}}
{{- if regexMatch "^postgres(ql)?:" . -}}
{{- $found = append $found (include "idkeep.databasePort" . | int) -}}
{{- else -}}
{{- $authority := regexReplaceAll "[/?#].*$" (regexReplaceAll "^[a-z0-9+]+://" . "") "" -}}
{{- $port := regexFind ":[0-9]+$" $authority | trimPrefix ":" -}}
{{- $found = append $found (default (ternary 80 443 (hasPrefix "http:" .)) $port | int) -}}
{{- end -}}
{{- end -}}
{{- range .Values.networkPolicy.extraPorts -}}
{{- $found = append $found (int .) -}}
{{- end -}}
{{- $texts := list -}}
{{- range without $found 0 -}}
{{- $texts = append $texts (printf "%05d" .) -}}
{{- end -}}
{{- $texts | uniq | sortAlpha | toJson -}}
{{- end -}}

{{/* The port of a database's address; 0 for a socket. */}}
{{- define "idkeep.databasePort" -}}
{{- $authority := regexReplaceAll "[/?#].*$" (regexReplaceAll "^[a-z]+://" . "") "" | regexFind "[^@]*$" -}}
{{- $host := regexReplaceAll ":[0-9]*$" $authority "" -}}
{{- $ofQuery := regexFind "[?&]host(addr)?=[^&]*" . | regexFind "[^=]*$" -}}
{{- $port := regexFind "[?&]port=[0-9]+" . | regexFind "[0-9]+$" | default (regexFind ":[0-9]+$" $authority | trimPrefix ":") -}}
{{- if or (and (not $host) (not $ofQuery)) (hasPrefix "/" $ofQuery) (hasPrefix "%2F" $ofQuery) (hasPrefix "%2F" $host) (hasPrefix "%2f" $host) -}}
0
{{- else -}}
{{- $port | default "5432" -}}
{{- end -}}
{{- end -}}
