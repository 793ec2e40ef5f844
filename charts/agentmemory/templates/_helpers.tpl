{{/* The name that everything of a release begins with. */}}
{{- define "agentmemory.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "agentmemory.operator" -}}{{ include "agentmemory.fullname" . }}-operator{{- end -}}
{{- define "agentmemory.webhook" -}}{{ include "agentmemory.fullname" . }}-webhook{{- end -}}
{{- define "agentmemory.tools" -}}{{ include "agentmemory.fullname" . }}-tools{{- end -}}
{{- define "agentmemory.uninstall" -}}{{ include "agentmemory.fullname" . }}-uninstall{{- end -}}

{{/* The Secret with the webhook's certificate. */}}
{{- define "agentmemory.certificate" -}}
{{- if eq .Values.webhook.certificates.mode "Provided" -}}
{{- required "webhook.certificates.secretName: with mode Provided, name the kubernetes.io/tls Secret" .Values.webhook.certificates.secretName -}}
{{- else -}}
{{ include "agentmemory.webhook" . }}-tls
{{- end -}}
{{- end -}}

{{- define "agentmemory.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "agentmemory.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Labels that tell one component's pods from all others; they never change. Call with (list . "operator"). */}}
{{- define "agentmemory.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
agentmemory.io/component: {{ index . 1 }}
{{- end -}}

{{/* The settings file: the values, and what only the chart knows. */}}
{{- define "agentmemory.settings" -}}
{{- $webhook := dict "certificates" .Values.webhook.certificates.mode "configuration" (include "agentmemory.fullname" .) "service" (include "agentmemory.webhook" .) "secret" (include "agentmemory.certificate" .) -}}
{{- $known := dict "operatorNamespace" .Release.Namespace "webhook" $webhook -}}
{{- $images := dict "images" (merge (deepCopy (.Values.settings.images | default dict)) (dict "sidecar" (printf "agentmemory-sidecar:%s" .Chart.AppVersion) "stores" (printf "agentmemory-stores:%s" .Chart.AppVersion))) -}}
{{- mergeOverwrite (deepCopy .Values.settings) $images $known | toYaml -}}
{{- end -}}

{{/* What every container of ours is: the profile `restricted`, and nothing to write to but /tmp. */}}
{{- define "agentmemory.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* The namespaces whose pods never get the sidecar. */}}
{{- define "agentmemory.excludedNamespaces" -}}
{{- concat (list "kube-system" "kube-node-lease" .Release.Namespace) .Values.webhook.excludedNamespaces | uniq | toJson -}}
{{- end -}}

{{/* Which pods ask for the sidecar: by their own label, or by their namespace's. Disjoint. Call with (list . "pod"). */}}
{{- define "agentmemory.asks" -}}
{{- $root := index . 0 -}}
{{- $own := eq (index . 1) "pod" -}}
namespaceSelector:
  {{- if not $own }}
  matchLabels: {agentmemory.io/inject: "true"}
  {{- end }}
  matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values: {{ include "agentmemory.excludedNamespaces" $root }}
    {{- with $root.Values.settings.namespaces }}
    - key: kubernetes.io/metadata.name
      operator: In
      values: {{ toJson . }}
    {{- end }}
objectSelector:
  {{- if $own }}
  matchLabels: {agentmemory.io/inject: "true"}
  {{- end }}
  matchExpressions:
    - {key: agentmemory.io/component, operator: DoesNotExist}
    {{- if not $own }}
    - {key: agentmemory.io/inject, operator: NotIn, values: ["false", "true"]}
    {{- end }}
{{- end -}}

{{/* CEL: pods that no webhook and no policy can do anything about. */}}
{{- define "agentmemory.notMirror" -}}
!has(object.metadata.annotations) || !('kubernetes.io/config.mirror' in object.metadata.annotations)
{{- end -}}
{{- define "agentmemory.notHost" -}}
!(has(object.spec.hostNetwork) && object.spec.hostNetwork) && !(has(object.spec.os) && object.spec.os.name == 'windows')
{{- end -}}
