{{/*
An init container that holds a pod until the node's identities are stored, for charts that have this one as a dependency:

  securityContext: {fsGroup: 65532}
  initContainers:
    {{- include "idkeep.initContainer" .Subcharts.idkeep | nindent 4 }}
  volumes:
    {{- include "idkeep.volumes" .Subcharts.idkeep | nindent 4 }}

It is for pods that depend on the node. Never for the validator app's own pod, nor for any that the app waits for: the
app answers only once its pod has started, so the two would wait for each other. The pod needs `fsGroup: 65532`, or the
container cannot read its Secrets, and a service account that the stores know. Who the container runs as it says itself:
`idkeep.podSecurityContext` is for pods of this chart, and would make the others of yours run as 65532, too.
*/}}
{{- define "idkeep.initContainer" -}}
- name: idkeep
  args: {{ include "idkeep.args" (list . (concat (list "sync" "--wait" .Values.initContainer.wait) .Values.initContainer.nodes)) }}
  {{- include "idkeep.container" . | nindent 2 }}
{{- end -}}
