package agent

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/margay-net/margay/pkg/kube"
)

// sharedAddress is the Node's condition that says that another node claims its address.
const sharedAddress = "DuplicateNodeAddress"

// told tells people through the Node object what is odd about this node: each fault once as an Event, and a shared
// address as a condition for as long as it lasts. The log and the metrics tell the same; here kubectl describe shows it.
type told struct {
	node   string
	client *kube.Client
	log    *slog.Logger
	wake   chan struct{}

	mu     sync.Mutex
	faults []string // of this node
	shared []string // those that say that its address is another's, too
}

func newTold(node string, client *kube.Client, log *slog.Logger) *told {
	return &told{node: node, client: client, log: log, wake: make(chan struct{}, 1)}
}

// set takes what is odd now.
func (t *told) set(faults, shared []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Equal(t.faults, faults) && slices.Equal(t.shared, shared) {
		return
	}
	t.faults, t.shared = slices.Clone(faults), slices.Clone(shared)
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run tells until ctx ends. What the API server does not take is told again.
func (t *told) run(ctx context.Context) error {
	var said []string
	condition := "unknown" // what the Node's condition says; a former agent may have left it
	for ctx.Err() == nil {
		t.mu.Lock()
		faults, shared := append(slices.Clone(t.shared), t.faults...), strings.Join(t.shared, "; ")
		t.mu.Unlock()
		var err error
		if condition != shared {
			if err = t.setCondition(ctx, shared); err == nil {
				condition = shared
			}
		}
		for _, f := range faults {
			if slices.Contains(said, f) {
				continue
			}
			reason := "NetworkFault"
			if strings.Contains(shared, f) {
				reason = sharedAddress
			}
			if refused := t.client.Warn(ctx, t.node, reason, f); refused != nil {
				err = refused
				break
			}
			said = append(said, f)
		}
		said = slices.DeleteFunc(said, func(f string) bool { return !slices.Contains(faults, f) })
		var again <-chan time.Time
		if err != nil {
			t.log.Debug("cannot tell of a fault yet", "err", err)
			again = time.After(10 * time.Second)
		}
		select {
		case <-ctx.Done():
		case <-t.wake:
		case <-again:
		}
	}
	return nil
}

func (t *told) setCondition(ctx context.Context, shared string) error {
	if shared == "" {
		return t.client.EndCondition(ctx, t.node, sharedAddress, "AddressIsUnique")
	}
	return t.client.SetCondition(ctx, t.node, kube.Condition{Type: sharedAddress, On: true, Reason: "AddressIsShared", Message: shared})
}
