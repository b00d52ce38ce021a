package store

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/model"
)

func TestBlockExists(t *testing.T) {
	s := New()
	for _, b := range []string{"10.0.0.0/26", "10.0.1.0/24", "fd00::/122"} {
		s.SetBlock(model.Block{CIDR: netip.MustParsePrefix(b)})
	}
	for cidr, want := range map[string]bool{
		"10.0.0.0/26": true, "10.0.0.64/26": false, "10.0.0.32/27": true, "10.0.0.0/25": true,
		"10.0.1.64/26": true, "10.0.2.0/26": false, "fd00::/122": true, "fd00::40/122": false, "fd00::/120": true,
	} {
		if got := s.BlockExists(netip.MustParsePrefix(cidr)); got != want {
			t.Errorf("BlockExists(%s) = %v", cidr, got)
		}
	}
	s.DeleteBlock(netip.MustParsePrefix("10.0.0.0/26"))
	if s.BlockExists(netip.MustParsePrefix("10.0.0.0/26")) {
		t.Error("a deleted block exists")
	}
}

// TestOverlap: of two pools that overlap the older one counts, whatever their names and the order in which they came.
func TestOverlap(t *testing.T) {
	old := model.Pool{Name: "z", CIDR: netip.MustParsePrefix("10.0.0.0/16"), Created: time.Unix(1, 0)}
	young := model.Pool{Name: "a", CIDR: netip.MustParsePrefix("10.0.128.0/17"), Created: time.Unix(2, 0)}
	for _, order := range [][]model.Pool{{old, young}, {young, old}} {
		s := New()
		for _, p := range order {
			s.SetPool(p)
		}
		pools := s.Pools()
		if len(pools) != 2 || pools[0].Name != "a" || !pools[0].Disabled || pools[1].Disabled {
			t.Errorf("pools %+v", pools)
		}
		if o := s.Overlaps(); len(o) != 1 || !strings.Contains(o[0], "IPPool a") || !strings.Contains(o[0], "spec.cidr") {
			t.Errorf("overlaps %q", o)
		}
	}
}

// TestChanged: the store tells of changes, not of nodes' heartbeats.
func TestChanged(t *testing.T) {
	s := New()
	changed := func() bool {
		select {
		case <-s.Changed():
			return true
		default:
			return false
		}
	}
	s.SetNode(model.Node{Name: "n"})
	if !changed() {
		t.Error("a new node is no change")
	}
	s.SetNode(model.Node{Name: "n"})
	if changed() {
		t.Error("the same node is a change")
	}
	for k := range kinds {
		if s.InSync() {
			t.Errorf("in sync before kind %d was read", k)
		}
		s.Synced(k)
	}
	if !s.InSync() {
		t.Error("not in sync though all kinds were read")
	}
}

func TestParams(t *testing.T) {
	s := New()
	s.SetParams("default", map[string]string{"vxlanMTU": "1400"})
	if p := s.Params("default"); p["vxlanMTU"] != "1400" || s.Params("node.a") != nil {
		t.Errorf("default: %v, node.a: %v", p, s.Params("node.a"))
	}
	<-s.Changed()
	s.SetParams("default", nil)
	if p := s.Params("default"); p != nil {
		t.Errorf("gone: %v", p)
	}
	<-s.Changed()
}
