package main

import (
	"context"

	genericapiserver "k8s.io/apiserver/pkg/server"
)

func contextOfSignals() context.Context { return genericapiserver.SetupSignalContext() }
