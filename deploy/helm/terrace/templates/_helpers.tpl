{{- define "terrace.labels" -}}
app.kubernetes.io/name: terrace
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "terrace.all-labels" -}}
{{ include "terrace.labels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}
{{- /*
What `config` says of the listeners: whether there is one for the service alone, and what it speaks. Looked for are names that
nothing else in a configuration has, in lines that are no comments: of `tls`, `tls.cert_file` and a table in one line alike.
*/}}
{{- define "terrace.has-admin" -}}
{{- if regexMatch `(?m)^[^#\n]*\badmin_listen["']?[ \t]*=` .Values.config }}yes{{ end }}
{{- end }}
{{- define "terrace.has-tls" -}}
{{- if regexMatch `(?m)^[^#\n]*\bcert_file["']?[ \t]*=` .Values.config }}yes{{ end }}
{{- end }}
{{- define "terrace.wants-certificates" -}}
{{- if regexMatch `(?m)^[^#\n]*\bclient_ca_file["']?[ \t]*=` .Values.config }}yes{{ end }}
{{- end }}
{{- define "terrace.can-be-reached" -}}
{{- if regexMatch `(?m)^[^#\n]*\blisten["']?[ \t]*=[ \t]*["'](\$\{\w+:-)?(0\.0\.0\.0|\[::\]):4000\}?["']` .Values.config }}yes{{ end }}
{{- end }}
{{- define "terrace.admin-can-be-reached" -}}
{{- if regexMatch `(?m)^[^#\n]*\badmin_listen["']?[ \t]*=[ \t]*["'](\$\{\w+:-)?(0\.0\.0\.0|\[::\]):4001\}?["']` .Values.config }}yes{{ end }}
{{- end }}
{{- define "terrace.writes-behind" -}}
{{- if regexMatch `(?m)^[^#\n]*\bstrategy["']?[ \t]*=[ \t]*["']write-behind["']` .Values.config }}yes{{ end }}
{{- end }}
{{- define "terrace.probe-port" -}}
{{ ternary "admin" "http" (eq (include "terrace.has-admin" .) "yes") }}
{{- end }}
{{- /* A probe has no certificate of a client: where one is asked for, it can see no more than that somebody listens. */}}
{{- define "terrace.probe" -}}
{{- if eq (include "terrace.wants-certificates" .root) "yes" -}}
tcpSocket: {port: {{ include "terrace.probe-port" .root }}}
{{- else -}}
httpGet: {path: {{ .path }}, port: {{ include "terrace.probe-port" .root }}, scheme: {{ ternary "HTTPS" "HTTP" (eq (include "terrace.has-tls" .root) "yes") }}}
{{- end }}
{{- end }}
{{- define "terrace.check" -}}
{{- if ne (include "terrace.can-be-reached" .) "yes" }}
{{- fail "config: the Service and the probes look for port 4000 of the pod. Set `listen = \"0.0.0.0:4000\"` in [server]; what it is without that, only the pod itself can reach." }}
{{- end }}
{{- if and (eq (include "terrace.has-admin" .) "yes") (ne (include "terrace.admin-can-be-reached" .) "yes") }}
{{- fail "config: the admin Service and the probes look for port 4001 of the pod. Set `admin_listen = \"0.0.0.0:4001\"` in [server], or leave it out." }}
{{- end }}
{{- if and (eq (include "terrace.writes-behind" .) "yes") (not .Values.journal.enabled) }}
{{- fail "config: a keyspace has the strategy \"write-behind\", and without journal.enabled the writes that wait are lost with their pod. Set `journal.enabled=true`, and `path = \"/var/lib/terrace/writes.journal\"` in [write_behind]." }}
{{- end }}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) }}
{{- fail "autoscaling: minReplicas is more than maxReplicas." }}
{{- end }}
{{- if and .Values.journal.enabled .Values.autoscaling.enabled }}
{{- fail "journal.enabled and autoscaling.enabled exclude each other: an instance that is scaled away takes its journal, and the writes that wait in it, along. Set `replicas` by hand, and wait until terrace_write_behind_pending is 0 before you lower it." }}
{{- end }}
{{- end }}
