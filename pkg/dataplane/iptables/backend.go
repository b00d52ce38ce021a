package iptables

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/margay-net/margay/pkg/netlink"
)

// Backend says which of the two iptables to use. The values are those of FelixConfiguration's iptablesBackend.
type Backend string

// Values of Backend.
const (
	Auto   Backend = "Auto"
	Legacy Backend = "Legacy"
	NFT    Backend = "NFT"
)

// hints are the chains in table mangle that kubelet leaves, with the iptables of the host.
var hints = [...]string{"KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"}

// lookAt finds out which legacy tables a node has: the kernel lists those that are loaded.
func lookAt(c *netlink.Conn) host {
	h := host{conn: c}
	_ = c.Do(func() error {
		for i, file := range [...]string{"/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"} {
			h.legacy[i] = map[string]bool{}
			b, _ := os.ReadFile(file) // not there: none
			for _, table := range strings.Fields(string(b)) {
				h.legacy[i][table] = true
			}
		}
		return nil
	})
	return h
}

// anyLegacy tells whether a node has legacy tables of ours or that a packet on its way to a pod goes through.
func (h host) anyLegacy() bool {
	for _, tables := range h.legacy {
		for _, s := range sections {
			if tables[s.table] {
				return true
			}
		}
	}
	return false
}

// detect finds the backend that the node's own programs use. What can't be looked at is taken for not there.
func (t *Tables) detect(h host) Backend {
	for _, k := range kinds {
		hinted, err := t.hinted(h, k)
		if err != nil {
			t.unread = append(t.unread, fmt.Errorf("look for kubelet's hint: %w", err))
		}
		if hinted {
			return map[bool]Backend{true: Legacy, false: NFT}[k.legacy]
		}
	}
	if !h.anyLegacy() {
		return NFT
	}
	if time.Since(t.counted.at) > countEvery {
		t.counted.backend, t.counted.at = t.count(), time.Now()
	}
	return t.counted.backend
}

// countEvery is how often rules are counted on a node that has both kinds and no hint: there may be many.
const countEvery = 5 * time.Minute

// count tells which backend has more rules of others.
func (t *Tables) count() Backend {
	count := map[bool]int{} // by legacy
	for _, k := range kinds {
		p := t.program(k)
		if p == nil {
			continue
		}
		all, err := p.save()
		if err != nil {
			t.unread = append(t.unread, fmt.Errorf("count rules: %w", err))
		}
		for line := range strings.Lines(string(all)) {
			if strings.HasPrefix(line, "-A ") && !strings.Contains(line, "MARGAY-") { // ours must not decide where ours are
				count[k.legacy]++
			}
		}
	}
	if count[true] > count[false] {
		return Legacy
	}
	return NFT
}

// hinted tells whether kubelet left one of its chains.
func (t *Tables) hinted(h host, k kind) (bool, error) {
	for _, chain := range hints {
		there, err := h.has(k, "mangle", chain)
		if err != nil {
			return false, err
		}
		if there && k.legacy {
			p := t.program(k)
			if p == nil {
				return false, nil
			}
			lines, err := p.chain("mangle", chain)
			if err != nil {
				return false, err
			}
			there = len(lines) > 0
		}
		if there {
			return true, nil
		}
	}
	return false, nil
}
