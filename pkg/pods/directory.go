package pods

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	watchPatience = 300 * time.Millisecond // how long an ADD waits for the watch to tell of its pod
	askPatience   = time.Second            // and then for the API server's answer
)

// Directory is what the watches have told of. All methods may be called from any goroutine.
type Directory struct {
	source  Source
	log     *slog.Logger
	changed func() // see NewDirectory

	mu     sync.RWMutex
	pods   map[[2]string]Pod // by namespace and name
	spaces map[string]Namespace
	read   [2]bool       // pods, namespaces were read whole
	news   chan struct{} // closed at the next change
	silent bool          // the API server did not answer when it was asked last
	labels bool          // WatchLabels
}

// NewDirectory returns an empty directory. changed, which may be nil, is called when a pod's floating addresses may have
// changed, and, if WatchLabels says so, its labels; it must not block.
func NewDirectory(source Source, changed func(), log *slog.Logger) *Directory {
	if changed == nil {
		changed = func() {}
	}
	return &Directory{source: source, log: log, changed: changed, pods: map[[2]string]Pod{}, spaces: map[string]Namespace{}, news: make(chan struct{})}
}

// tell wakes who waits. The caller holds mu.
func (d *Directory) tell() {
	close(d.news)
	d.news = make(chan struct{})
}

// SetPod takes a pod in.
func (d *Directory) SetPod(p Pod) {
	key := [2]string{p.Namespace, p.Name}
	d.mu.Lock()
	old, ok := d.pods[key]
	relabeled := !maps.Equal(old.Labels, p.Labels)
	same := ok && old.UID == p.UID && old.Static == p.Static && maps.Equal(old.Annotations, p.Annotations) && !relabeled
	relabeled = relabeled && d.labels
	if !same { // most changes of a pod are of its status
		d.pods[key] = p
		d.tell()
	}
	d.mu.Unlock()
	if name := prefix + annFloating; relabeled || old.Annotations[name] != p.Annotations[name] {
		d.changed()
	}
}

// DeletePod takes a pod out.
func (d *Directory) DeletePod(namespace, name string) {
	key := [2]string{namespace, name}
	d.mu.Lock()
	old := d.pods[key]
	delete(d.pods, key)
	labels := d.labels
	d.mu.Unlock()
	if labels || old.Annotations[prefix+annFloating] != "" {
		d.changed()
	}
}

// SetNamespace takes a namespace in.
func (d *Directory) SetNamespace(n Namespace) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spaces[n.Name] = n
	d.tell()
}

// DeleteNamespace takes a namespace out.
func (d *Directory) DeleteNamespace(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.spaces, name)
}

// ReadPods notes that all pods of the node have been read.
func (d *Directory) ReadPods() { d.hasRead(0) }

// ReadNamespaces notes that all namespaces have been read.
func (d *Directory) ReadNamespaces() { d.hasRead(1) }

func (d *Directory) hasRead(i int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.read[i] = true
}

// InSync says whether pods and namespaces have been read once.
func (d *Directory) InSync() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.read[0] && d.read[1]
}

// look returns what is known of a pod and its namespace, and what is closed when that may have changed. A pod of the same
// name with another UID is not the one that is meant.
func (d *Directory) look(r Ref) (p Pod, ns Namespace, hasPod, hasNS bool, news <-chan struct{}) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if p, hasPod = d.pods[[2]string{r.Namespace, r.Name}]; !p.is(r) {
		p, hasPod = Pod{}, false
	}
	ns, hasNS = d.spaces[r.Namespace]
	return p, ns, hasPod, hasNS, d.news
}

func (p Pod) is(r Ref) bool { return r.UID == "" || p.UID == r.UID || p.Static == r.UID }

// Find returns what is known of a pod and of its namespace, both at least by name. It answers from memory when the watches
// have told of both; else it waits for them a moment, and then asks the API server once. Of a pod that the API server
// does not have, or when it does not answer, nothing is known; nor is anything waited for of a container whose UID
// kubelet cannot have given it.
func (d *Directory) Find(ctx context.Context, r Ref) (Pod, Namespace) {
	p, ns, hasPod, hasNS, news := d.look(r)
	if kubelets(r.UID) {
		for patience := time.After(watchPatience); !hasPod || !hasNS; p, ns, hasPod, hasNS, news = d.look(r) {
			select {
			case <-news:
				continue
			case <-ctx.Done():
			case <-patience:
			}
			break
		}
		if !hasPod || !hasNS {
			p, ns = d.ask(ctx, r, p, ns, hasPod, hasNS)
		}
	}
	p.Namespace, p.Name, ns.Name = r.Namespace, r.Name, r.Namespace
	return p, ns
}

// ask asks the API server for what is missing.
func (d *Directory) ask(ctx context.Context, r Ref, p Pod, ns Namespace, hasPod, hasNS bool) (Pod, Namespace) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	var err error
	if !hasPod {
		var got Pod
		if got, err = d.source.Pod(ctx, r.Namespace, r.Name); err == nil && got.is(r) {
			p = got
		}
	}
	if !hasNS && (err == nil || errors.Is(err, ErrNotFound)) {
		ns, err = d.source.Namespace(ctx, r.Namespace)
	}
	silent := err != nil && !errors.Is(err, ErrNotFound)
	d.mu.Lock()
	before := d.silent
	d.silent = silent
	d.mu.Unlock()
	switch {
	case silent && !before:
		d.log.Error("annotations of a new pod are not known, since the API server does not answer; pods start as if they had none", "pod", r.Namespace+"/"+r.Name, "err", err)
	case !silent && before:
		d.log.Info("API server tells of new pods again")
	}
	return p, ns
}

// WatchLabels says whether changed is to be called for pods that come, go or get other labels.
func (d *Directory) WatchLabels(yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.labels = yes
}

// Labels returns a pod's labels, and those by which Calico knows it besides.
func (d *Directory) Labels(namespace, name string) (labels map[string]string, known bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p, known := d.pods[[2]string{namespace, name}]
	labels = map[string]string{"projectcalico.org/namespace": namespace, "projectcalico.org/orchestrator": "k8s"}
	maps.Copy(labels, p.Labels)
	return labels, known
}

// HasFloating says whether a pod asks for floating addresses.
func (d *Directory) HasFloating(namespace, name string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.pods[[2]string{namespace, name}].Annotations[prefix+annFloating] != ""
}

// Floating returns the floating addresses of the node's pods by namespace and name, of those that ask for any, and a line
// for each value that is bad.
func (d *Directory) Floating() (addrs map[[2]string][]netip.Addr, faults []string) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	addrs = map[[2]string][]netip.Addr{}
	for key, p := range d.pods {
		if p.Annotations[prefix+annFloating] == "" {
			continue
		}
		r := reader{pod: p}
		addrs[key] = r.floating()
		for _, err := range r.errs {
			faults = append(faults, err.Error())
		}
	}
	slices.Sort(faults)
	return addrs, faults
}
