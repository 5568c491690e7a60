{{/* What nobody may change: the restricted level of Pod Security, and more. */}}
{{- define "idkeep.containerSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "idkeep.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
# Secrets are mounted readable by the group alone, which is this one.
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Memory is requested as it is limited: only then does the kubelet not swap it. A backup takes more of it. */}}
{{- define "idkeep.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- $limits := $resources.limits | default dict -}}
{{- $requests := $resources.requests | default dict -}}
{{- $usual := ternary "512Mi" "256Mi" (not (not (include "idkeep.hasBackups" .))) -}}
{{- $memory := $limits.memory | default $requests.memory | default $usual -}}
{{- if ne (toString ($requests.memory | default $memory)) (toString $memory) -}}
{{- fail (printf "resources: memory is requested as %v and limited to %v, and what is beyond the request could be swapped: name one of the two" $requests.memory $memory) -}}
{{- end -}}
requests:
  {{- toYaml (set $requests "memory" $memory) | nindent 2 }}
limits:
  {{- toYaml (set $limits "memory" $memory) | nindent 2 }}
{{- end -}}

{{/* Everything of a container but its name and arguments. */}}
{{- define "idkeep.container" -}}
image: {{ include "idkeep.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy | quote }}
securityContext:
  {{- include "idkeep.containerSecurityContext" . | nindent 2 }}
resources:
  {{- include "idkeep.resources" . | nindent 2 }}
{{- with .Values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - {name: idkeep-config, mountPath: /etc/idkeep, readOnly: true}
  - {name: idkeep-tmp, mountPath: /tmp}
  {{- range .Values.secrets }}
  - {name: {{ printf "idkeep-secret-%s" .name | quote }}, mountPath: {{ printf "/var/run/secrets/idkeep/%s" .name | quote }}, readOnly: true}
  {{- end }}
  {{- if eq (include "idkeep.vaultToken" .) "true" }}
  - {name: idkeep-vault-token, mountPath: {{ dir .Values.vaultToken.path | quote }}, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* The arguments: a list of the scope and the command's words. */}}
{{- define "idkeep.args" -}}
{{- $values := (index . 0).Values -}}
{{- concat (list "--log-format" $values.logFormat "--log-level" $values.logLevel) $values.extraArgs (index . 1) | toJson -}}
{{- end -}}

{{- define "idkeep.volumes" -}}
- name: idkeep-config
  configMap:
    name: {{ include "idkeep.fullname" . | quote }}
- name: idkeep-tmp
  emptyDir: {medium: Memory, sizeLimit: {{ .Values.tmp.sizeLimit | quote }}}
{{- range .Values.secrets }}
- name: {{ printf "idkeep-secret-%s" .name | quote }}
  secret:
    secretName: {{ .existingSecret | quote }}
    defaultMode: 0440
    {{- with .items }}
    items:
      {{- range . }}
      - {key: {{ . | quote }}, path: {{ . | quote }}}
      {{- end }}
    {{- end }}
{{- end }}
{{- if eq (include "idkeep.vaultToken" .) "true" }}
- name: idkeep-vault-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: {{ base .Values.vaultToken.path | quote }}
          expirationSeconds: {{ .Values.vaultToken.expirationSeconds | int }}
          {{- with .Values.vaultToken.audience }}
          audience: {{ . | quote }}
          {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* `metadata` of a pod template: a list of the scope and the component. */}}
{{- define "idkeep.podMetadata" -}}
{{- $scope := index . 0 -}}
labels:
  {{- include "idkeep.labels" $scope | nindent 2 }}
  app.kubernetes.io/component: {{ index . 1 | quote }}
  {{- with $scope.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  # Another configuration is another pod.
  checksum/config: {{ print (include "idkeep.config" $scope) (toJson $scope.Values.files) | sha256sum | quote }}
  {{- with $scope.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Everything of a pod but its containers. */}}
{{- define "idkeep.pod" -}}
serviceAccountName: {{ include "idkeep.serviceAccountName" . | quote }}
automountServiceAccountToken: {{ include "idkeep.automount" . }}
enableServiceLinks: false
# SIGTERM takes up to 25 seconds: no half set, no lock left behind, leases given back.
terminationGracePeriodSeconds: 30
securityContext:
  {{- include "idkeep.podSecurityContext" . | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  {{- include "idkeep.volumes" . | nindent 2 }}
{{- end -}}

{{/*
What is tried again and what is not: 75 is "try again later", the others need somebody. An evicted pod is nobody's failure.
A list of the containers' names.
*/}}
{{- define "idkeep.podFailurePolicy" -}}
rules:
  {{- range . }}
  - action: FailJob
    onExitCodes:
      containerName: {{ . }}
      operator: In
      values: [2, 3, 64, 65, 70, 77, 78]
  {{- end }}
  - action: Ignore
    onPodConditions:
      - {type: DisruptionTarget, status: "True"}
{{- end -}}
