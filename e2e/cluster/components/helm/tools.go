//go:build tools

// Package tools pins what the local cluster builds from helm.sh/helm/v4.
package tools

import (
	_ "helm.sh/helm/v4/cmd/helm"
)
