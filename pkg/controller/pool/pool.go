// Package pool looks for what is wrong with IP pools that the API server cannot see: networks that overlap, selectors that
// do not parse. It says so once, as a Warning event of the pool and in the log, and for as long as it lasts in a metric.
package pool

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/controller/cluster"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/selector"
)

// Faults returns what is wrong, by the name of the pool; pools are sorted by name. It names the field and the way out.
func Faults(pools []cluster.Pool) map[string]string {
	out := map[string]string{}
	add := func(name, what string) {
		if out[name] != "" {
			what = out[name] + "; " + what
		}
		out[name] = what
	}
	for i, p := range pools {
		if p.Err != "" {
			add(p.Name, p.Err)
		}
		for field, text := range map[string]string{"spec.nodeSelector": p.NodeSelector, "spec.namespaceSelector": p.NamespaceSelector} {
			if _, err := selector.Parse(text); err != nil {
				add(p.Name, fmt.Sprintf("%s %q: %v; the pool selects nothing until it is corrected", field, text, err))
			}
		}
		for _, other := range pools[:i] {
			if p.CIDR.IsValid() && other.CIDR.IsValid() && p.CIDR.Overlaps(other.CIDR) {
				add(p.Name, fmt.Sprintf("spec.cidr %s overlaps with IP pool %s (%s): delete one of the two", p.CIDR, other.Name, other.CIDR))
				add(other.Name, fmt.Sprintf("spec.cidr %s overlaps with IP pool %s (%s): delete one of the two", other.CIDR, p.Name, p.CIDR))
			}
		}
	}
	return out
}

// Watcher tells of faults until its context ends.
type Watcher struct {
	cluster *cluster.Cluster
	client  *kube.Client
	log     *slog.Logger

	mu     sync.Mutex
	faults map[string]string
}

// NewWatcher returns a watcher that has not started.
func NewWatcher(c *cluster.Cluster, client *kube.Client, log *slog.Logger) *Watcher {
	return &Watcher{cluster: c, client: client, log: log}
}

// Faults returns what is wrong at present, by the name of the pool.
func (w *Watcher) Faults() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.faults
}

// Run tells until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-w.cluster.InSync():
	}
	for {
		pools := w.cluster.Pools()
		now, before := Faults(pools), w.Faults()
		w.mu.Lock()
		w.faults = now
		w.mu.Unlock()
		for _, p := range pools {
			switch what := now[p.Name]; {
			case what != "" && what != before[p.Name]:
				w.tell(ctx, p, what)
			case what == "" && before[p.Name] != "":
				w.log.Info("IP pool is in order again", "pool", p.Name)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.cluster.Changed(cluster.Pools):
		}
		// A pool and what corrects it often come together.
		t := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

func (w *Watcher) tell(ctx context.Context, p cluster.Pool, what string) {
	w.log.Warn("IP pool is at fault", "pool", p.Name, "fault", what)
	on := corev1.ObjectReference{APIVersion: v3.GroupVersion.String(), Kind: "IPPool", Name: p.Name, UID: types.UID(p.UID)}
	message := what[:min(len(what), 1000)]
	if err := w.client.Tell(ctx, on, corev1.EventTypeWarning, "margay-controller", "PoolFault", strings.ToValidUTF8(message, "")); err != nil {
		w.log.Debug("cannot write an event", "err", err)
	}
}
