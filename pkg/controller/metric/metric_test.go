package metric

import (
	"net/netip"
	"testing"
)

func TestReserved(t *testing.T) {
	p := netip.MustParsePrefix
	for _, c := range []struct {
		pool     string
		reserved []netip.Prefix
		want     float64
	}{
		{"10.0.0.0/24", nil, 0},
		{"10.0.0.0/24", []netip.Prefix{p("10.0.0.0/28"), p("10.0.1.0/28"), p("10.0.0.255/32")}, 17},
		{"10.0.0.0/24", []netip.Prefix{p("10.0.0.0/28"), p("10.0.0.4/30"), p("10.0.0.0/28")}, 16}, // some twice
		{"10.0.0.0/24", []netip.Prefix{p("10.0.0.0/8"), p("10.0.0.4/30")}, 256},
		{"fd00::/64", []netip.Prefix{p("fd00::/96"), p("10.0.0.0/8")}, 1 << 32},
	} {
		if got := Reserved(p(c.pool), c.reserved); got != c.want {
			t.Errorf("%v of %s: %v, want %v", c.reserved, c.pool, got, c.want)
		}
	}
}
