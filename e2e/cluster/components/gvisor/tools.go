//go:build tools

// Package tools pins what the local cluster builds from gvisor.dev/gvisor.
package tools

import (
	_ "gvisor.dev/gvisor/runsc"
	_ "gvisor.dev/gvisor/shim"
)
