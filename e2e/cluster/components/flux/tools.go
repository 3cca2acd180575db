//go:build tools

// Package tools pins the GitOps controllers that the tests build: github.com/fluxcd.
package tools

import (
	_ "github.com/fluxcd/kustomize-controller"
	_ "github.com/fluxcd/source-controller"
)
