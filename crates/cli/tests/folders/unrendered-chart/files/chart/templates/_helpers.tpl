{{- define "web.fullname" -}}web{{- end }}
