// Command margayctl shows and changes the resources, addresses and nodes of a cluster; see package ctl. Linked or copied
// as kubectl-margay it is kubectl's plugin.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/margay-net/margay/pkg/ctl"
)

// Set by the linker: -X main.version=v1.2.3 -X main.commit=0123abc.
var version, commit = "unknown", "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := ctl.New(os.Args[0], ctl.Build{Version: version, Commit: commit}).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
