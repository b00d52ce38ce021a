package route

import (
	"net/netip"
	"testing"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink/nstest"
	"github.com/margay-net/margay/pkg/reconcile"
)

// Count is of what is wanted, each destination once.
func TestCount(t *testing.T) {
	tab := New(nstest.New(t).Conn(t), quiet, reconcile.Hooks{})
	wantCount := func(v4, v6 int) {
		t.Helper()
		if n4, n6 := tab.Count(); n4 != v4 || n6 != v6 {
			t.Errorf("%d and %d routes, want %d and %d", n4, n6, v4, v6)
		}
	}
	wantCount(0, 0)
	tab.SetCluster(append(families[0].cluster(), families[1].cluster()[:2]...))
	wantCount(3, 2)
	tab.SetEndpoints(append(families[0].pods(), families[1].pods()...))
	wantCount(4, 3)
	tab.SetCluster([]model.Route{{Dst: netip.MustParsePrefix(families[0].pod), Kind: model.RouteBlackhole, Proto: 80}})
	wantCount(1, 1)
	tab.DeleteEndpoint(netip.MustParsePrefix(families[1].pod))
	wantCount(1, 0)
}
