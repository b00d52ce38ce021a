// Package foreign keeps the addresses that pods bring along: those of the annotation ipAddrsNoIpam, which IPAM has no part
// in. It stands before package ipam, and the CNI server sees one of both.
//
// Each interface with such addresses is one file on tmpfs beside IPAM's journal, written before ADD goes on and removed by
// DEL, so that an agent that starts again knows which routes to want. Nothing about them is in the datastore: no block, no
// handle; nothing there collects them or finds them in conflict. Whoever asks for an address twice, or for one of a pool,
// gets what he asked for, as with Calico; but two pods of one node cannot have the same address, nor does IPAM of this node
// give it to another. Other nodes may: InPools says where that threatens.
package foreign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/model"
)

// IPAM is what is done for all other pods.
type IPAM interface {
	Assign(ctx context.Context, r ipam.Request) (model.Endpoint, error)
	Activate(key string) error
	Release(key string) ipam.Released
	Lookup(key string) (model.Endpoint, bool)
	Endpoints() []model.Endpoint
	Keep(ep model.Endpoint)
	Unkeep(ep model.Endpoint)
}

// record is what a file holds.
type record struct {
	Boot     string         `json:"boot"` // the node's boot that the pod belongs to
	Active   bool           `json:"active"`
	Endpoint model.Endpoint `json:"endpoint"`
}

// Book is IPAM, and the addresses of others. All methods may be called from any goroutine.
type Book struct {
	IPAM
	dir, boot string
	log       *slog.Logger
	changed   func(ep model.Endpoint, foreign bool) // one came or went, whoever its addresses are from

	mu      sync.Mutex
	records map[string]*record // by Key
	missed  map[string]bool    // interfaces that were gone when Audit looked last
}

// Open reads the folder, which need not exist. Files of an earlier boot are removed, damaged ones set aside. changed, which
// may be nil, is told of each endpoint that was activated or released; it must not block.
func Open(of IPAM, dir, boot string, changed func(ep model.Endpoint, foreign bool), log *slog.Logger) (*Book, error) {
	if changed == nil {
		changed = func(model.Endpoint, bool) {}
	}
	b := &Book{IPAM: of, dir: dir, boot: boot, log: log, changed: changed, records: map[string]*record{}}
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read addresses without IPAM: %w", err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if !strings.HasSuffix(path, ".json") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read addresses without IPAM: %w", err)
		}
		var r record
		switch err = json.Unmarshal(text, &r); {
		case err != nil || b.path(r.Endpoint.Key()) != path:
			log.Error("record of a pod's addresses is damaged and set aside; delete the pod to have its network made anew", "file", path, "err", err)
			err = os.Rename(path, path+".damaged")
		case r.Boot != boot:
			err = os.Remove(path)
		default:
			b.records[r.Endpoint.Key()] = &r
			of.Keep(r.Endpoint)
		}
		if err != nil {
			return nil, fmt.Errorf("read addresses without IPAM: %w", err)
		}
	}
	return b, nil
}

// path is the file of an endpoint. Neither a container's ID nor an interface's name has a slash.
func (b *Book) path(key string) string {
	return filepath.Join(b.dir, strings.ReplaceAll(key, "/", "+")+".json")
}

// write puts a record on disk, whole or not at all.
func (b *Book) write(r *record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return fmt.Errorf("write addresses without IPAM: %w", err)
	}
	path := b.path(r.Endpoint.Key())
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return fmt.Errorf("write addresses without IPAM: %w", errors.Join(err, os.Remove(path+".new")))
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write addresses without IPAM: %w", err)
	}
	return nil
}

// Take notes an endpoint with its addresses, ep.Addrs. The caller must Activate or Release it.
func (b *Book) Take(ep model.Endpoint) (model.Endpoint, error) {
	if _, ok := b.IPAM.Lookup(ep.Key()); ok {
		return model.Endpoint{}, ipam.ErrExists
	}
	others := b.IPAM.Endpoints()
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.records[ep.Key()]; r != nil {
		if r.Active {
			return model.Endpoint{}, ipam.ErrExists
		}
		return model.Endpoint{}, ipam.ErrBusy
	}
	for _, r := range b.records {
		others = append(others, r.Endpoint)
	}
	for _, o := range others {
		for _, a := range ep.Addrs {
			if slices.Contains(o.Addrs, a) {
				return model.Endpoint{}, fmt.Errorf("%w: %s is that of pod %s/%s on this node", ipam.ErrInUse, a, o.Namespace, o.Pod)
			}
		}
	}
	r := &record{Boot: b.boot, Endpoint: ep}
	if err := b.write(r); err != nil {
		return model.Endpoint{}, err
	}
	b.records[ep.Key()] = r
	b.IPAM.Keep(ep)
	return ep, nil
}

// Activate says that the endpoint's routes stand.
func (b *Book) Activate(key string) error {
	foreign, err := b.activate(key)
	if ep, ok := b.Lookup(key); ok && err == nil {
		b.changed(ep, foreign)
	}
	return err
}

func (b *Book) activate(key string) (foreign bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.records[key]
	if r == nil {
		return false, b.IPAM.Activate(key)
	}
	active := *r
	active.Active = true
	if err := b.write(&active); err != nil {
		return true, err
	}
	r.Active = true
	b.IPAM.Keep(r.Endpoint) // an audit before there was an interface may have ended it
	return true, nil
}

// Release takes the endpoint's addresses back; see package ipam.
func (b *Book) Release(key string) ipam.Released {
	r, foreign := b.release(key)
	if r.Found {
		b.changed(r.Endpoint, foreign)
	}
	return r
}

func (b *Book) release(key string) (r ipam.Released, foreign bool) {
	b.mu.Lock()
	own := b.records[key]
	if own != nil {
		b.drop(key)
	}
	b.mu.Unlock()
	if own == nil {
		return b.IPAM.Release(key), false
	}
	return ipam.Released{Endpoint: own.Endpoint, Found: true}, true
}

// drop forgets a record. The caller holds mu.
func (b *Book) drop(key string) {
	b.IPAM.Unkeep(b.records[key].Endpoint)
	delete(b.records, key)
	if err := os.Remove(b.path(key)); err != nil && !errors.Is(err, os.ErrNotExist) {
		b.log.Error("record of a pod's addresses stays; after a restart the audit drops it", "file", b.path(key), "err", err)
	}
}

// Lookup returns an endpoint that lives.
func (b *Book) Lookup(key string) (model.Endpoint, bool) {
	b.mu.Lock()
	r := b.records[key]
	b.mu.Unlock()
	if r == nil {
		return b.IPAM.Lookup(key)
	}
	return r.Endpoint, true
}

// Endpoints returns the endpoints that live, whoever their addresses are from.
func (b *Book) Endpoints() []model.Endpoint {
	out := b.IPAM.Endpoints()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.records {
		if r.Active {
			out = append(out, r.Endpoint)
		}
	}
	return out
}

// Count returns how many endpoints live whose addresses IPAM has no part in.
func (b *Book) Count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.records)
}

// InPools says, a line each, which addresses of endpoints here lie in one of the pools.
func (b *Book) InPools(pools []model.Pool) (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.records {
		for _, a := range r.Endpoint.Addrs {
			for _, p := range pools {
				if p.CIDR.Contains(a) {
					out = append(out, fmt.Sprintf("pod %s/%s brought address %s along (annotation ipAddrsNoIpam), which lies in IPPool %s: another node may give it to another pod; make an IPReservation for it, or use annotation ipAddrs",
						r.Endpoint.Namespace, r.Endpoint.Pod, a, p.Name))
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// Audit drops endpoints whose interface was gone at two looks in a row: their DEL was lost. It returns them.
func (b *Book) Audit(hasLink func(string) bool) (ended []model.Endpoint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	missed := map[string]bool{}
	for key, r := range b.records {
		if hasLink(r.Endpoint.HostVeth) {
			continue
		}
		missed[key] = true
		if b.missed[key] {
			b.log.Warn("interface of an endpoint is gone; its addresses are released", "endpoint", key, "pod", r.Endpoint.Namespace+"/"+r.Endpoint.Pod)
			b.drop(key)
			ended = append(ended, r.Endpoint)
		}
	}
	b.missed = missed
	return ended
}
