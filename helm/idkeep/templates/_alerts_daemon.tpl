{{/* The alerts on the daemon's own metrics. */}}
{{- define "idkeep.daemonAlerts" -}}
{{- $name := include "idkeep.fullname" . -}}
{{- $s := .Values.prometheusRule.selector | default (printf "namespace=%q,job=%q" .Release.Namespace $name) -}}
{{- $run := printf "kubectl -n %s exec deploy/%s -- idkeep" .Release.Namespace $name -}}
{{- $by := "by (namespace, job, node)" -}}
{{- $schedule := .Values.config.schedule | default dict -}}
{{- $all := include "idkeep.nodes" (list . "all") | fromJsonArray -}}
{{- $backup := include "idkeep.nodes" (list . "backup") | fromJsonArray -}}
{{- $pruned := include "idkeep.nodes" (list . "pruned") | fromJsonArray -}}
{{- $limited := include "idkeep.nodes" (list . "limited") | fromJsonArray -}}
{{- $objective := include "idkeep.objective" . -}}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepDown" "severity" "critical" "for" "10m"
  "expr" (printf "absent(idkeep_build_info{%s})" $s)
  "summary" "idkeep is not running, or nobody reads its metrics."
  "do" (printf "Look at `kubectl -n %s get pods` and the log of deploy/%s; a configuration it refuses is exit code 78. If it runs, look whether Prometheus may reach it (networkPolicy.scrapeFrom)." .Release.Namespace $name)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepConfigReloadFailed" "severity" "warning"
  "expr" (printf "idkeep_config_last_reload_successful{%s} == 0" $s)
  "summary" "idkeep goes on with its old configuration: the new one is wrong."
  "do" (printf "`%s check` names the mistake." $run)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepConfigReloadUnknown" "severity" "warning" "for" "10m"
  "expr" (printf "absent(idkeep_config_last_reload_successful{%s})" $s)
  "summary" "Nobody knows whether idkeep's configuration is the one that is written."
  "do" (printf "As IdkeepDown; if it runs, its version is older than this chart: `%s --version`." $run)) }}
{{- if $schedule.identities }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepIdentitiesStale" "severity" "critical" "for" "5m"
  "expr" (printf "time() - max %s (idkeep_sync_last_success_timestamp_seconds{%s}) > on (namespace, job) group_left () 3 * max by (namespace, job) (idkeep_schedule_interval_seconds{%s,task=\"identities\"})" $by $s $s)
  "summary" "The identities of <node> were last stored more than three intervals ago."
  "do" (printf "`%s check --live` says what fails, and what to do. docs/src/reference/troubleshooting.md goes by its message." $run)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepIdentitiesUnknown" "severity" "critical" "for" "30m"
  "expr" (printf "%s or absent(idkeep_schedule_interval_seconds{%s,task=\"identities\"})" (include "idkeep.absent" (list "idkeep_sync_last_success_timestamp_seconds" $s $all "")) $s)
  "summary" "Nobody knows whether the identities of <node> were ever stored."
  "do" (printf "`%s sync <node>` tries it now; `%s list <node>` shows what the stores hold." $run $run)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepIdentityRefused" "severity" "critical"
  "expr" (include "idkeep.rose" (list (printf "idkeep_sync_refused_total{%s}" $s) "1h"))
  "summary" "What <node> gave as its identities was refused: another participant, too many changes, or no proven dump. Nothing was overwritten."
  "do" (printf "`%s sync --dry-run <node>` names the reason and both participants. Accept another one only if you know why it is another: `sync --accept-new-identity=PAR::… <node>`." $run)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepIdentityRefusedUnknown" "severity" "warning" "for" "30m"
  "expr" (include "idkeep.absent" (list "idkeep_sync_refused_total" $s $all ""))
  "summary" "Nobody knows whether what <node> gives as its identities is refused."
  "do" (printf "As IdkeepDown; if it runs, <node> is not in the configuration that it runs with: `%s list`." $run)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepParticipantChanged" "severity" "critical"
  "expr" (printf "count %s (count by (namespace, job, node, participant_id) (last_over_time(idkeep_identity_info{%s}[1d]))) > 1" $by $s)
  "summary" "<node> has another participant than within the last day."
  "do" (printf "Was it meant to (a reset of the network, a recovery)? `%s list <node>` shows both; the older one's party hint and versions are kept." $run)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepParticipantUnknown" "severity" "warning" "for" "30m"
  "expr" (include "idkeep.absent" (list "idkeep_identity_info" $s $all "[1d]"))
  "summary" "The identities of <node> were not looked at for a day."
  "do" (printf "`%s sync <node>` tries it now." $run)) }}
{{- if $limited }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepStoreNearlyFull" "severity" "warning"
  "expr" (printf "max by (namespace, job, node, store) (idkeep_store_fill_ratio{%s}) > 0.8" $s)
  "summary" "The identities of <node> fill more than 80 % of what <store> takes of one secret."
  "do" "A dump that no longer fits is not stored (exit code 65). Add a store that takes more (docs/src/reference/support.md has the limits) before that." ) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepStoreFillUnknown" "severity" "warning" "for" "30m"
  "expr" (include "idkeep.absent" (list "idkeep_store_fill_ratio" $s $limited "[1d]"))
  "summary" "Nobody knows how full the stores of <node> are."
  "do" (printf "`%s check --live` looks at each of them." $run)) }}
{{- end }}
{{- end }}
{{- if and $schedule.backups $backup }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepBackupOld" "severity" "critical"
  "expr" (printf "time() - max %s (idkeep_backup_last_success_timestamp_seconds{%s}) > max %s (idkeep_backup_objective_seconds{%s})" $by $s $by $s)
  "summary" "The newest backup set of <node> is older than its objective."
  "do" (printf "`%s list <node>` shows the sets; `%s check --live` tries databases and repository; `%s backup <node>` takes one now." $run $run $run)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepBackupUnknown" "severity" "critical" "for" $objective
  "expr" (printf "%s or %s" (include "idkeep.absent" (list "idkeep_backup_last_success_timestamp_seconds" $s $backup "")) (include "idkeep.absent" (list "idkeep_backup_objective_seconds" $s $backup "")))
  "summary" "Nobody knows of a backup set of <node>."
  "do" (printf "`%s list <node>` shows the sets; `%s check --live` tries databases and repository." $run $run)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepBackupRejected" "severity" "critical"
  "expr" (include "idkeep.rose" (list (printf "idkeep_backup_total{%s,outcome=\"rejected\"}" $s) "4h"))
  "summary" "A backup set of <node> was rejected: its databases do not belong together."
  "do" (printf "The log of deploy/%s names the invariant (I1 to I4); docs/src/how-to/backups.md says what each means. Restore nothing from that set." $name)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepBackupRejectedUnknown" "severity" "warning" "for" "30m"
  "expr" (include "idkeep.absent" (list "idkeep_backup_total" (printf "%s,outcome=\"rejected\"" $s) $backup ""))
  "summary" "Nobody knows whether backup sets of <node> are rejected."
  "do" (printf "As IdkeepDown; if it runs, <node> has no `backup` in the configuration that it runs with: `%s list <node>`." $run)) }}
{{- if $pruned }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepBackupGap" "severity" "critical"
  "expr" (printf "max %s (idkeep_backup_gap_seconds{%s}) > 0.8 * max %s (idkeep_backup_pruning_retention_seconds{%s})" $by $s $by $s)
  "summary" "The backup sets of <node> have a gap of more than 80 % of what the participant keeps before it prunes."
  "do" (printf "If the gap is up to now, take a set at once: `%s backup <node>`. If it lies between two sets (`%s list <node>`), it stays until the older one expires." $run $run)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepBackupGapUnknown" "severity" "warning" "for" $objective
  "expr" (printf "%s or %s" (include "idkeep.absent" (list "idkeep_backup_gap_seconds" $s $pruned "")) (include "idkeep.absent" (list "idkeep_backup_pruning_retention_seconds" $s $pruned "")))
  "summary" "Nobody knows how far apart the backup sets of <node> are."
  "do" (printf "`%s list <node>` shows the sets." $run)) }}
{{- end }}
{{- end }}
{{- if and $schedule.verify $backup }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepVerifyFailed" "severity" "critical"
  "expr" (include "idkeep.rose" (list (printf "idkeep_verify_total{%s,outcome=\"fail\"}" $s) "1d"))
  "summary" "A backup set of <node> is damaged, or not what its manifest says."
  "do" (printf "`%s verify <node> --all` says which sets and which checks. Take a new set, keep the damaged one, find out who wrote to the bucket." $run)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepVerifyUndecided" "severity" "warning"
  "expr" (include "idkeep.rose" (list (printf "idkeep_verify_total{%s,outcome=\"unknown\"}" $s) "2d"))
  "summary" "Within two days `verify` could not decide whether a backup set of <node> is good."
  "do" (printf "`%s verify <node>` says which check, and what it lacks. It counts as no failure, so no other alert speaks of it." $run)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepVerifyOutcomeUnknown" "severity" "warning" "for" "30m"
  "expr" (printf "%s or %s" (include "idkeep.absent" (list "idkeep_verify_total" (printf "%s,outcome=\"fail\"" $s) $backup "")) (include "idkeep.absent" (list "idkeep_verify_total" (printf "%s,outcome=\"unknown\"" $s) $backup "")))
  "summary" "Nobody knows what `verify` came to for <node>."
  "do" (printf "As IdkeepDown; if it runs, <node> has no `backup` in the configuration that it runs with: `%s list <node>`." $run)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepVerifyOverdue" "severity" "warning" "for" "5m"
  "expr" (printf "time() - max %s (idkeep_verify_last_success_timestamp_seconds{%s}) > on (namespace, job) group_left () 2 * max by (namespace, job) (idkeep_schedule_interval_seconds{%s,task=\"verify\"})" $by $s $s)
  "summary" "No backup set of <node> has passed `verify` for two intervals."
  "do" (printf "`%s verify <node>` says what is wrong. Without a verified set `expire` stops." $run)) }}
{{ include "idkeep.alert" (dict "scope" . "name" "IdkeepVerifyUnknown" "severity" "warning" "for" "1d"
  "expr" (printf "%s or absent(idkeep_schedule_interval_seconds{%s,task=\"verify\"})" (include "idkeep.absent" (list "idkeep_verify_last_success_timestamp_seconds" $s $backup "")) $s)
  "summary" "Nobody knows of a verified backup set of <node>."
  "do" (printf "`%s verify <node>` checks the newest one." $run)) }}
{{- end }}
{{- end -}}
