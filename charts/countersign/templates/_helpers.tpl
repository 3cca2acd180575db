{{- define "countersign.selector" -}}
app.kubernetes.io/name: countersign
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "countersign.labels" -}}
{{ include "countersign.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "countersign.broker.selector" -}}
app.kubernetes.io/name: countersign-broker
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "countersign.broker.labels" -}}
{{ include "countersign.broker.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "countersign.broker.image" -}}
{{- if .Values.broker.image.digest -}}
{{ .Values.broker.image.repository }}@{{ .Values.broker.image.digest }}
{{- else -}}
{{ .Values.broker.image.repository }}:{{ .Values.broker.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "countersign.signer.selector" -}}
app.kubernetes.io/name: countersign-signer
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "countersign.signer.labels" -}}
{{ include "countersign.signer.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "countersign.signer.image" -}}
{{- if .Values.signer.image.digest -}}
{{ .Values.signer.image.repository }}@{{ .Values.signer.image.digest }}
{{- else -}}
{{ .Values.signer.image.repository }}:{{ .Values.signer.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "countersign.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "countersign.runnerImage" -}}
{{- .Values.runner.image | required "runner.image: set it to the runner's image by digest, REPOSITORY@sha256:…" -}}
{{- end -}}

{{- /* The Secret that holds the database's URL. */ -}}
{{- define "countersign.databaseSecret" -}}
{{- if and .Values.postgres.existingSecret .Values.postgres.bundled.enabled -}}
{{- fail "postgres: set existingSecret or bundled.enabled, not both" -}}
{{- else if .Values.postgres.existingSecret -}}
{{ .Values.postgres.existingSecret }}
{{- else if .Values.postgres.bundled.enabled -}}
countersign-postgres
{{- else -}}
{{- fail "postgres: set existingSecret to a Secret with the key url, or bundled.enabled for a first look" -}}
{{- end -}}
{{- end -}}

{{- /* The caBundle that the operator patched in; an upgrade must not take it away. */ -}}
{{- define "countersign.caBundle" -}}
{{- $live := lookup "admissionregistration.k8s.io/v1" . "" "countersign" -}}
{{- if and $live $live.webhooks -}}
{{- with (first $live.webhooks).clientConfig.caBundle }}
caBundle: {{ . }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The path that the operator patched in, likewise; what stands here before that is answered by nobody. */ -}}
{{- define "countersign.webhookPath" -}}
{{- $live := lookup "admissionregistration.k8s.io/v1" (index . 0) "" "countersign" -}}
{{- $path := index . 1 -}}
{{- if and $live $live.webhooks -}}
{{- $path = (first $live.webhooks).clientConfig.service.path | default $path -}}
{{- end -}}
{{- $path -}}
{{- end -}}

{{- /* For how long a session of PostgreSQL may keep something from others. */ -}}
{{- define "countersign.databaseTimeouts" -}}
{{- with .Values.postgres.timeouts -}}
- {name: COUNTERSIGN_DATABASE_STATEMENT_SECONDS, value: {{ .statementSeconds | quote }}}
- {name: COUNTERSIGN_DATABASE_LOCK_SECONDS, value: {{ .lockSeconds | quote }}}
- {name: COUNTERSIGN_DATABASE_IDLE_IN_TRANSACTION_SECONDS, value: {{ .idleInTransactionSeconds | quote }}}
- {name: COUNTERSIGN_DATABASE_VANISHED_SECONDS, value: {{ .vanishedSeconds | quote }}}
{{- end -}}
{{- end -}}
