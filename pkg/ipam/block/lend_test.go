package block

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

func TestKeptOf(t *testing.T) {
	b := New(netip.MustParsePrefix("10.0.0.0/29"), HostAffinity("a"), time.Now())
	if KeptOf(b) != 4 {
		t.Errorf("a block that nobody asked for keeps %d, want half", KeptOf(b))
	}
	for _, c := range []struct{ set, want int }{{3, 3}, {0, 0}, {-1, 0}, {4, 4}, {9, 4}} {
		SetKept(b, c.set)
		if KeptOf(b) != c.want {
			t.Errorf("kept %d reads as %d, want %d", c.set, KeptOf(b), c.want)
		}
	}
	if len(b.Annotations) != 0 {
		t.Errorf("half needs no annotation: %v", b.Annotations)
	}
	for _, text := range []string{"", "x", "-3", "5", "1e1"} {
		b.Annotations = map[string]string{annKept: text}
		if KeptOf(b) != 4 {
			t.Errorf("kept %q reads as %d, want half", text, KeptOf(b))
		}
	}
	b.Spec.Affinity = nil
	if KeptOf(b) != 0 || !Lends(b) {
		t.Error("a block that nobody owns keeps something, or lends nothing")
	}
	services := LoadBalancer
	b.Spec.Affinity = &services
	if Lends(b) {
		t.Error("the block of Services lends to pods")
	}
}

func TestWanted(t *testing.T) {
	b := New(netip.MustParsePrefix("fd00::/124"), HostAffinity("a"), time.Now())
	was := b.DeepCopy()
	if node, addr := Wanted(b); node != "" || addr.IsValid() {
		t.Errorf("nobody asked: %q %s", node, addr)
	}
	for _, want := range []netip.Addr{{}, netip.MustParseAddr("fd00::3")} {
		Ask(b, "node.b-1", want)
		if node, addr := Wanted(b); node != "node.b-1" || addr != want {
			t.Errorf("asked for %s: %q %s", want, node, addr)
		}
	}
	if Same(b, was) {
		t.Error("a note is no difference")
	}
	Answered(b)
	if !Same(b, was) {
		t.Error("an answered note is left")
	}
	SetRouted(b, 1<<63)
	if Routed(b) != 1<<63 || Same(b, was) {
		t.Errorf("routed up to %d", Routed(b))
	}
}

func TestLoans(t *testing.T) {
	cidr := netip.MustParsePrefix("10.0.0.0/29")
	b := New(cidr, HostAffinity("a"), time.Now())
	for o, node := range []string{"a", "b", "", "c"} {
		b.Spec.SequenceNumber = uint64(10 + o)
		about := map[string]string{AttrNode: node}
		if node == "" {
			about = nil
		}
		if err := Take(b, o, "h"+node, about); err != nil {
			t.Fatal(err)
		}
	}
	want := []Loan{{1, "b", 11}, {3, "c", 13}}
	if got := Loans(b); !slices.Equal(got, want) {
		t.Errorf("loans %v, want %v", got, want)
	}
	Retire(b, 3, "hc", false, time.Minute, time.Now())
	if got := Loans(b); !slices.Equal(got, want[:1]) {
		t.Errorf("with one cooling down: %v", got)
	}
	b.Spec.Affinity = nil
	if got := Loans(b); len(got) != 2 {
		t.Errorf("of a block that nobody owns all are on loan: %v", got)
	}
	var none v3.IPAMBlock
	if len(Loans(&none)) != 0 {
		t.Error("an empty object has loans")
	}
}
