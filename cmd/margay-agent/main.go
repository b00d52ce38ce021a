// Command margay-agent is the node's agent. Without arguments, or with -felix, it runs until SIGTERM; "health --live" and "health --ready"
// are for exec probes; "cleanup" leaves the node as it was found; "version" prints the version. Its configuration is the environment: see package agent.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"k8s.io/klog/v2"

	"github.com/margay-net/margay/pkg/agent"
	"github.com/margay-net/margay/pkg/config"
	"github.com/margay-net/margay/pkg/kube"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, strings.Join(os.Args[1:], " ")); err != nil {
		fmt.Fprintln(os.Stderr, "margay-agent:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args string) error {
	if args == "version" {
		fmt.Println(agent.Version)
		return nil
	}
	conf, err := config.Read(os.Environ())
	if err != nil {
		return err
	}
	if flags, ok := strings.CutPrefix(args, "cleanup"); ok {
		return agent.Cleanup(ctx, conf, strings.Fields(flags), os.Stdout)
	}
	switch args {
	case "", "-felix": // by the latter calicoctl tells that a node has an agent
	case "health --live":
		return agent.Probe(ctx, conf, "liveness")
	case "health --ready":
		return agent.Probe(ctx, conf, "readiness")
	default:
		return fmt.Errorf("unknown arguments %q: want none, health --live, health --ready, cleanup or version", args)
	}
	level := new(slog.LevelVar)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	klog.SetSlogLogger(log)
	rc, err := kube.Config(conf.Kubeconfig)
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	client, err := kube.New(rc)
	if err != nil {
		return err
	}
	a, err := agent.New(conf, client, log, level)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}
