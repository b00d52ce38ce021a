package controller

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/margay-net/margay/pkg/controller/cluster"
	"github.com/margay-net/margay/pkg/controller/setting"
	"github.com/margay-net/margay/pkg/kube"
)

// follow applies the configuration, makes it when there is none, and says in its status what counts.
func (c *Controller) follow(ctx context.Context, seen *cluster.Cluster) error {
	select {
	case <-ctx.Done():
		return nil
	case <-seen.InSync():
	}
	for {
		gather := 200 * time.Millisecond
		if err := c.configure(ctx, seen); err != nil && ctx.Err() == nil {
			c.log.Warn("configuration is not up to date; it is tried again", "err", err)
			seen.Wake(cluster.Config)
			gather = 5 * time.Second
		}
		select {
		case <-ctx.Done():
			return nil
		case <-seen.Changed(cluster.Config):
		}
		t := time.NewTimer(gather)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

func (c *Controller) configure(ctx context.Context, seen *cluster.Cluster) error {
	have := seen.Config()
	if have == nil {
		made, err := c.client.EnsureControllersConfig(ctx, setting.Default())
		if err != nil {
			return fmt.Errorf("make KubeControllersConfiguration %s: %w", kube.ControllersConfig, err)
		}
		have = made
	}
	settings, status := setting.Resolve(c.env, &have.Spec)
	c.apply(settings)
	if reflect.DeepEqual(status, have.Status) {
		return nil
	}
	have = have.DeepCopy()
	have.Status = status
	if err := c.client.UpdateControllersStatus(ctx, have); err != nil {
		return fmt.Errorf("write status of KubeControllersConfiguration %s: %w", kube.ControllersConfig, err)
	}
	return nil
}

// apply has new settings count.
func (c *Controller) apply(s setting.Settings) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if reflect.DeepEqual(s, c.settings) {
		return
	}
	for _, w := range s.Warnings {
		c.log.Warn("configuration", "warning", w)
	}
	c.setLevel(s)
	c.settings = s
	close(c.changed)
	c.changed = make(chan struct{})
}

// silent is above all levels.
const silent = slog.Level(100)

func (c *Controller) setLevel(s setting.Settings) {
	l := s.Level
	if s.Silent {
		l = silent
	}
	c.level.Set(l)
}
