package pods

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/selector"
)

// Features are what a CNI configuration allows pods to ask for (feature_control).
type Features struct{ IPAddrsNoIPAM, FloatingIPs bool }

// Choice is what an ADD gives a pod.
type Choice struct {
	Pools  []model.Pool // see Wish.Pools; nil: all that give addresses without being asked for
	Addrs  []netip.Addr // static ones: just these
	NoIPAM bool         // IPAM has no part in Addrs
	MAC    string       // "": the kernel's choice
}

// Chooser decides what pods get. Choose may be called from several goroutines.
type Chooser struct {
	directory *Directory
	pools     func() []model.Pool
	floating  func() bool
	log       *slog.Logger

	mu       sync.Mutex
	selector selector.Cache
	sources  bool // it was said that allowedSourcePrefixes has no effect
}

// NewChooser returns a chooser. pools returns all pools by name, as Wish.Pools needs them; floating says whether floating
// addresses are switched on.
func NewChooser(d *Directory, pools func() []model.Pool, floating func() bool, log *slog.Logger) *Chooser {
	return &Chooser{directory: d, pools: pools, floating: floating, log: log}
}

// Choose says what a pod gets. The error is ErrNoPool, or joins all that is wrong with the annotations.
func (c *Chooser) Choose(ctx context.Context, r Ref, f Features) (Choice, error) {
	p, ns := c.directory.Find(ctx, r)
	w, err := Read(p, ns)
	pod := " of pod " + r.Namespace + "/" + r.Name
	if w.NoIPAM && !f.IPAddrsNoIPAM {
		err = errors.Join(err, fmt.Errorf("annotation %s is not allowed here: set feature_control.ip_addrs_no_ipam to true in the CNI configuration of the node (CNI_NETWORK_CONFIG), or use %s, or remove the annotation",
			prefix+annNoIPAM+pod, prefix+annAddrs))
	}
	if len(w.Floating) > 0 && !f.FloatingIPs && !c.floating() {
		err = errors.Join(err, fmt.Errorf("annotation %s is not allowed here: set floatingIPs to Enabled in FelixConfiguration default, or remove the annotation",
			prefix+annFloating+pod))
	}
	if len(w.Sources) > 0 {
		c.sayOnce(r)
	}
	out := Choice{Addrs: w.Addrs, NoIPAM: w.NoIPAM, MAC: w.MAC}
	if len(w.Addrs) == 0 {
		var refused error
		out.Pools, refused = w.Pools(ns, c.pools(), c.parse)
		if err == nil || !errors.Is(refused, ErrNoPool) {
			err = errors.Join(err, refused)
		}
	}
	if err != nil {
		return Choice{}, err
	}
	return out, nil
}

func (c *Chooser) parse(text string) (*selector.Selector, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.selector.Parse(text)
}

func (c *Chooser) sayOnce(r Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.sources {
		c.sources = true
		c.log.Info("annotation has no effect: what pods send is let through whatever its source address", "annotation", prefix+annSources, "pod", r.Namespace+"/"+r.Name)
	}
}
