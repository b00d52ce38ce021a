package bgp

import (
	"log/slog"
	"testing"
)

// What is kept of sessions that start anew is known, too, before there is a server and of networks around the one asked
// for. Package agent tests the rest, with peers.
func TestKnownWithoutServer(t *testing.T) {
	s := New(Options{Log: slog.New(slog.DiscardHandler)})
	if _, ok := s.Config(); ok {
		t.Error("a configuration before Set")
	}
	wide, narrow, other := prefix("10.0.0.0/8"), prefix("10.1.0.0/26"), prefix("10.1.0.64/26")
	for _, p := range []Path{{Prefix: wide, Peer: addr("10.9.9.9"), Stale: true}, {Prefix: narrow, Peer: addr("10.9.9.9")}, {Prefix: other, Peer: addr("10.9.9.9")}} {
		s.rib.live[p.Prefix] = []Path{p}
	}
	known := s.Known(t.Context(), prefix("10.1.0.7/32"))
	if len(known) != 2 || known[0].Prefix != wide || !known[0].Stale || known[1].Prefix != narrow || !known[1].Used || known[1].Refused {
		t.Errorf("known: %+v", known)
	}
	if all := s.Table(t.Context()); len(all) != 3 {
		t.Errorf("all: %+v", all)
	}
	if v4, v6 := s.Prefixes(); v4 != 3 || v6 != 0 {
		t.Errorf("%d and %d prefixes", v4, v6)
	}
	if told := s.Told(t.Context(), narrow); len(told) != 0 {
		t.Errorf("told: %v", told)
	}
	s.Set(Config{AS: 64512})
	if c, ok := s.Config(); !ok || c.AS != 64512 {
		t.Errorf("configuration %+v, %t", c, ok)
	}
}
