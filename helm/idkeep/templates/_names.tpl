{{- define "idkeep.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters: a CronJob's name may have 52, and the longest task is eleven of them. */}}
{{- define "idkeep.fullname" -}}
{{- $name := include "idkeep.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "idkeep.selectorLabels" -}}
app.kubernetes.io/name: {{ include "idkeep.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "idkeep.labels" -}}
{{ include "idkeep.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* `metadata` of an object: a list of the scope, its name, and annotations and labels of its own. */}}
{{- define "idkeep.metadata" -}}
{{- $scope := index . 0 -}}
{{- $annotations := mergeOverwrite (dict) $scope.Values.commonAnnotations (index . 2) -}}
name: {{ index . 1 | quote }}
namespace: {{ $scope.Release.Namespace | quote }}
labels:
  {{- include "idkeep.labels" $scope | nindent 2 }}
  {{- with index . 3 }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "idkeep.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "idkeep.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Whoever dumps over a connection needs `pg_dump`, which the other image does not have. */}}
{{- define "idkeep.image" -}}
{{- $name := .Values.image.repository | default (ternary "idkeep-postgres" "idkeep" (not (not (include "idkeep.usesPgDump" .)))) -}}
{{- with .Values.image.registry -}}
{{- $name = printf "%s/%s" (trimSuffix "/" .) $name -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
