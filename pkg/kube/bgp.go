package kube

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/model"
)

// Annotations of a Node that are about BGP (Calico's names).
const (
	annAS        = "projectcalico.org/ASNumber"
	annClusterID = "projectcalico.org/RouteReflectorClusterID"
)

// Peering takes what BGP's sessions follow from, as package peering keeps it. nil says that an object is gone; SetSecret: that it
// is not there or may not be read.
type Peering interface {
	SetConfiguration(name string, c *v3.BGPConfigurationSpec)
	SetPeer(name string, p *v3.BGPPeerSpec)
	SetFilter(name string, f *v3.BGPFilterSpec)
	SetNode(name string, n *model.BGPNode)
	Secrets() []string // that passwords are in
	SetSecret(name string, data map[string][]byte)
	ForgetSecret(name string)
	Synced(k model.BGPKind)
}

// WithBGP has the watcher keep a directory of BGP's resources, of the nodes as these see them, and of the Secrets that
// they name, each by itself, in the agents' namespace. It is to be called before Run.
func (w *Watcher) WithBGP(d Peering) *Watcher {
	w.bgp, w.namespace, w.named = d, ownNamespace(), make(chan struct{}, 1)
	return w
}

// ownNamespace is the namespace that the agent's pod is in: that of the variable NAMESPACE, as in Calico, else that of
// its service account. An agent that is in no pod takes kube-system.
func ownNamespace() string {
	if name := os.Getenv("NAMESPACE"); name != "" {
		return name
	}
	b, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if name := strings.TrimSpace(string(b)); err == nil && name != "" {
		return name
	}
	return metav1.NamespaceSystem
}

// bgpRuns watch what WithBGP asked for.
func (w *Watcher) bgpRuns() []func(context.Context) {
	if w.bgp == nil {
		return nil
	}
	return []func(context.Context){
		w.reflect(w.client.v3, "bgpconfigurations", &v3.BGPConfiguration{}, &sink[*v3.BGPConfiguration]{
			put:    func(c *v3.BGPConfiguration) { w.bgp.SetConfiguration(c.Name, &c.Spec); w.lookForSecrets() },
			drop:   func(name string) { w.bgp.SetConfiguration(name, nil); w.lookForSecrets() },
			synced: func() { w.bgp.Synced(model.BGPConfigurations) },
		}),
		w.reflect(w.client.v3, "bgppeers", &v3.BGPPeer{}, &sink[*v3.BGPPeer]{
			put:    func(p *v3.BGPPeer) { w.bgp.SetPeer(p.Name, &p.Spec); w.lookForSecrets() },
			drop:   func(name string) { w.bgp.SetPeer(name, nil); w.lookForSecrets() },
			synced: func() { w.bgp.Synced(model.BGPPeers) },
		}),
		w.reflect(w.client.v3, "bgpfilters", &v3.BGPFilter{}, &sink[*v3.BGPFilter]{
			put:    func(f *v3.BGPFilter) { w.bgp.SetFilter(f.Name, &f.Spec) },
			drop:   func(name string) { w.bgp.SetFilter(name, nil) },
			synced: func() { w.bgp.Synced(model.BGPFilters) },
		}),
		w.followSecrets,
	}
}

// readPeering takes what BGP must know of a Node. A malformed annotation counts as absent and is logged.
func readPeering(n *corev1.Node, log *slog.Logger) *model.BGPNode {
	out := &model.BGPNode{Labels: readLabels(n, log)}
	malformed := func(key string) {
		log.Warn("node annotation is malformed and not used", "node", n.Name, "annotation", key, "value", n.Annotations[key])
	}
	if v := n.Annotations[annAS]; v != "" {
		as, err := v3.ParseASNumber(v)
		if out.AS = uint32(as); err != nil {
			malformed(annAS)
		}
	}
	if v := n.Annotations[annClusterID]; v != "" {
		if id, err := netip.ParseAddr(v); err == nil && id.Is4() {
			out.ClusterID = id
		} else {
			malformed(annClusterID)
		}
	}
	return out
}

func (w *Watcher) lookForSecrets() {
	select {
	case w.named <- struct{}{}:
	default:
	}
}

// followSecrets follows just those Secrets that are named.
func (w *Watcher) followSecrets(ctx context.Context) {
	type follower struct {
		stop context.CancelFunc
		done chan struct{}
	}
	running := map[string]follower{}
	end := func(name string) {
		running[name].stop()
		<-running[name].done
		delete(running, name)
		w.bgp.ForgetSecret(name)
	}
	for {
		names := w.bgp.Secrets()
		for name := range running {
			if !slices.Contains(names, name) {
				end(name)
			}
		}
		for _, name := range names {
			if _, ok := running[name]; !ok {
				own, stop := context.WithCancel(ctx)
				f := follower{stop, make(chan struct{})}
				running[name] = f
				go func() { w.followSecret(own, name); close(f.done) }()
			}
		}
		select {
		case <-w.named:
		case <-ctx.Done():
			for name := range running {
				end(name)
			}
			return
		}
	}
}

// followSecret follows one Secret. It is asked for first, since a watch does not tell when it is refused.
func (w *Watcher) followSecret(ctx context.Context, name string) {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 8*time.Second) {
		s := &corev1.Secret{}
		err := w.client.core.Get().Namespace(w.namespace).Resource("secrets").Name(name).Timeout(requestTimeout).Do(ctx).Into(s)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			w.bgp.SetSecret(name, s.Data)
			break
		}
		// An API server that has just started forbids everything for a moment.
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) && pause > 2*time.Second {
			w.log.Error("secret of a BGP password is not there or may not be read", "namespace", w.namespace, "secret", name, "err", err)
			w.bgp.SetSecret(name, nil)
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
	there := false
	to := &sink[*corev1.Secret]{
		put:  func(s *corev1.Secret) { there = true; w.bgp.SetSecret(name, s.Data) },
		drop: func(string) { there = false; w.bgp.SetSecret(name, nil) },
		synced: func() {
			if !there {
				w.bgp.SetSecret(name, nil)
			}
		},
	}
	lw := cache.NewListWatchFromClient(w.client.core, "secrets", w.namespace, fields.OneTermEqualSelector(metav1.ObjectNameField, name))
	w.reflector(cache.ToListWatcherWithWatchListSemantics(lw, w.client.core), "secrets", &corev1.Secret{}, to)(ctx)
}
