// Command margay-controller cleans up what nodes and pods that are gone have left of addresses, and gives Services theirs.
// It runs until SIGTERM; "version" prints the version. Its configuration is the environment and the
// KubeControllersConfiguration named default: see package setting.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"k8s.io/klog/v2"

	"github.com/margay-net/margay/pkg/controller"
	"github.com/margay-net/margay/pkg/controller/setting"
	"github.com/margay-net/margay/pkg/kube"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, strings.Join(os.Args[1:], " ")); err != nil {
		fmt.Fprintln(os.Stderr, "margay-controller:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args string) error {
	switch args {
	case "":
	case "version":
		fmt.Println(controller.Version)
		return nil
	default:
		return fmt.Errorf("unknown arguments %q: want none or version", args)
	}
	env, err := setting.Read(os.Environ())
	if err != nil {
		return err
	}
	debug.SetGCPercent(50) // most of what it holds stays: that costs little time, and a quarter of the memory
	level := new(slog.LevelVar)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	klog.SetSlogLogger(log)
	rc, err := kube.Config(env.Kubeconfig)
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	client, err := kube.Connect(ctx, rc, env.Group)
	if err != nil {
		return err
	}
	return controller.New(env, rc, client, log, level).Run(ctx)
}
