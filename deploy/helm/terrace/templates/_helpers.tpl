{{- define "terrace.labels" -}}
app.kubernetes.io/name: terrace
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "terrace.all-labels" -}}
{{ include "terrace.labels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- /* What `config` says of the listeners: whether there is one for the service alone, and what it speaks. */}}
{{- define "terrace.has-admin" -}}
{{- if regexMatch `(?m)^[ \t]*admin_listen[ \t]*=` .Values.config }}yes{{ end }}
{{- end }}
{{- define "terrace.has-tls" -}}
{{- if regexMatch `(?m)^[ \t]*(tls[ \t]*=|tls\.cert_file[ \t]*=|\[[ \t]*server\.tls[ \t]*\])` .Values.config }}yes{{ end }}
{{- end }}
{{- define "terrace.wants-certificates" -}}
{{- if regexMatch `(?m)^[^#\n]*client_ca_file[ \t]*=` .Values.config }}yes{{ end }}
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
{{- if and .Values.journal.enabled .Values.autoscaling.enabled }}
{{- fail "journal.enabled and autoscaling.enabled exclude each other: an instance that is scaled away takes its journal, and the writes that wait in it, along. Set `replicas` by hand, and wait until terrace_write_behind_pending is 0 before you lower it." }}
{{- end }}
{{- end }}
