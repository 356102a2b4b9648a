{{- define "terrace.labels" -}}
app.kubernetes.io/name: terrace
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "terrace.all-labels" -}}
{{ include "terrace.labels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
