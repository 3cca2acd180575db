//go:build tools

// Package tools pins what the local cluster builds from github.com/opencontainers/runc.
package tools

import (
	_ "github.com/opencontainers/runc"
)
