{{/* The alerts on CronJobs, which serve no metrics of their own: kube-state-metrics tells when each last succeeded. */}}
{{- define "idkeep.cronjobAlerts" -}}
{{- $name := include "idkeep.fullname" . -}}
{{- $s := .Values.prometheusRule.selector | default (printf "namespace=%q" .Release.Namespace) -}}
{{- $objective := include "idkeep.seconds" (include "idkeep.objective" .) | int -}}
{{- $what := dict
  "identities" (list "IdkeepIdentitiesStale" "IdkeepIdentitiesUnknown" "The identities were last stored")
  "backups" (list "IdkeepBackupOld" "IdkeepBackupUnknown" "The last backup sets were taken")
  "verify" (list "IdkeepVerifyOverdue" "IdkeepVerifyUnknown" "The backup sets last passed `verify`")
  "expire" (list "IdkeepExpireOverdue" "IdkeepExpireUnknown" "Old backup sets were last removed") -}}
{{- $names := list -}}
{{- $ages := list -}}
{{- /* A sync that failed is followed by another within the hour, and its own alert fires if they all fail. */ -}}
{{- $critical := list -}}
{{- $warning := list -}}
{{- range $task := list "identities" "backups" "verify" "expire" }}
{{- $settings := index $.Values.cronjob $task }}
{{- if and $settings.enabled (or (eq $task "identities") (include "idkeep.hasBackups" $)) }}
{{- $cronjob := printf "%s-%s" $name $task }}
{{- $names = append $names $cronjob }}
{{- if has $task (list "backups" "verify") }}{{- $critical = append $critical $cronjob }}{{- else }}{{- $warning = append $warning $cronjob }}{{- end }}
{{- $words := get $what $task }}
{{- $age := $settings.maxAgeSeconds | default $objective | int }}
{{- $ages = append $ages $age }}
{{- $severity := ternary "critical" "warning" (has $task (list "identities" "backups")) }}
{{- $series := printf "kube_cronjob_status_last_successful_time{%s,cronjob=%q}" $s $cronjob }}
{{- $do := printf "`kubectl -n %s logs -l app.kubernetes.io/instance=%s,app.kubernetes.io/component=%s --tail=-1` says what failed; `kubectl -n %s create job --from=cronjob/%s %s-now` tries it now." $.Release.Namespace $.Release.Name $task $.Release.Namespace $cronjob $cronjob }}
{{ include "idkeep.alert" (dict "scope" $ "name" (index $words 0) "severity" $severity
  "expr" (printf "time() - max by (namespace, cronjob) (%s) > %d" $series $age)
  "summary" (printf "%s more than %d minutes ago (CronJob <cronjob>)." (index $words 2) (div $age 60)) "do" $do) }}
{{ include "idkeep.alert" (dict "scope" $ "name" (index $words 1) "severity" $severity "for" (printf "%ds" $age)
  "expr" (printf "absent(%s)" $series)
  "summary" (printf "CronJob %s has never succeeded, or nobody knows: kube-state-metrics tells." $cronjob) "do" $do) }}
{{- end }}
{{- end }}
{{- if $names }}
{{- range $severity, $failed := dict "critical" $critical "warning" $warning }}
{{- if $failed }}
{{ include "idkeep.alert" (dict "scope" $ "name" "IdkeepJobFailed" "severity" $severity
  "expr" (printf "max by (namespace, job_name) (kube_job_failed{%s,condition=\"true\",job_name=~\"(%s)-[0-9]+\"}) > 0" $s (join "|" $failed))
  "summary" "<job_name> failed for good: a rejected or damaged set, one that `verify` could not decide, a refused identity, refused credentials or a wrong configuration, or every retry was used up."
  "do" (printf "`kubectl -n %s describe job <job_name>` shows the exit code, `kubectl -n %s logs job/<job_name>` the reason; docs/src/reference/troubleshooting.md goes by both." $.Release.Namespace $.Release.Namespace)) }}
{{- end }}
{{- end }}
{{ include "idkeep.alert" (dict "scope" $ "name" "IdkeepJobsUnknown" "severity" "warning" "for" (printf "%ds" (first $ages))
  "expr" (printf "absent(kube_job_info{%s,job_name=~\"(%s)-[0-9]+\"})" $s (join "|" $names))
  "summary" "Nobody knows of any Job of idkeep's, failed or not: none was started, or kube-state-metrics does not tell."
  "do" (printf "`kubectl -n %s get cronjobs,jobs -l app.kubernetes.io/instance=%s` shows what there is; kube-state-metrics has to collect `jobs`." .Release.Namespace .Release.Name)) }}
{{- end }}
{{- end -}}
