{{/* One alert: a dict of scope, name, expr, for, severity, summary, do. `<node>` stands for the label's value. */}}
{{- define "idkeep.alert" -}}
- alert: {{ .name }}
  expr: {{ .expr | quote }}
  {{- with .for }}
  for: {{ . | quote }}
  {{- end }}
  labels:
    severity: {{ .severity | quote }}
    {{- with .scope.Values.prometheusRule.alertLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    summary: {{ regexReplaceAll "<([a-z_]+)>" .summary "{{ $$labels.${1} }}" | quote }}
    description: {{ regexReplaceAll "<([a-z_]+)>" .do "{{ $$labels.${1} }}" | quote }}
{{- end -}}

{{/* `absent` of a series for each node, since one node's must not hide another's: a list of the series, its labels, the nodes and a range. */}}
{{- define "idkeep.absent" -}}
{{- $series := index . 0 -}}
{{- $selector := index . 1 -}}
{{- $range := index . 3 -}}
{{- $all := list -}}
{{- range index . 2 -}}
{{- $all = append $all (printf "%s(%s{%s,node=%q}%s)" (ternary "absent_over_time" "absent" (not (not $range))) $series $selector . $range) -}}
{{- end -}}
{{- join " or " $all -}}
{{- end -}}

{{/*
A counter that went up within this time: a list of the series with its labels, and the time. `increase` sees what two
samples within it show. What begins with more than nothing, and what rose or began anew while nobody looked, is not what
it was when it was last seen before.
*/}}
{{- define "idkeep.rose" -}}
{{- $series := index . 0 -}}
{{- $range := index . 1 -}}
{{- printf "increase(%s[%s]) > 0 or (%s > 0 unless %s == last_over_time(%s[1d] offset %s))" $series $range $series $series $series $range -}}
{{- end -}}

{{/* The names of the nodes that this is true of, as JSON: a list of the scope and `all`, `backup`, `pruned` or `limited`. */}}
{{- define "idkeep.nodes" -}}
{{- $config := (index . 0).Values.config -}}
{{- $which := index . 1 -}}
{{- $nodes := list -}}
{{- range $name, $node := $config.nodes -}}
{{- $isIt := eq $which "all" -}}
{{- if eq $which "backup" -}}{{- $isIt = not (not $node.backup) -}}{{- end -}}
{{- if eq $which "pruned" -}}{{- $isIt = ($node.backup).pruning_retention | empty | not -}}{{- end -}}
{{- if eq $which "limited" -}}
{{- range $node.identity.stores -}}
{{- if not (hasKey (dig "stores" . dict $config) "file") -}}{{- $isIt = true -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if $isIt -}}{{- $nodes = append $nodes $name -}}{{- end -}}
{{- end -}}
{{- toJson $nodes -}}
{{- end -}}

{{/* A period of the configuration, such as 4h, in seconds. */}}
{{- define "idkeep.seconds" -}}
{{- $units := dict "s" 1 "m" 60 "h" 3600 "d" 86400 -}}
{{- mul (regexFind "^[0-9]+" . | int) (get $units (regexFind "[a-z]+$" .) | default 1) -}}
{{- end -}}

{{/* The age at which the newest set is too old. */}}
{{- define "idkeep.objective" -}}
{{- ((.Values.config.schedule).backups).objective | default "4h" -}}
{{- end -}}
