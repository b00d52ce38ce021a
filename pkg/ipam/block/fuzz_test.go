package block

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// FuzzBlock reads any text as an IPAMBlock. What Check lets through survives every other function of the package: none
// panics, and the block stays sound whatever is done to it. The rest of the input says what is done.
func FuzzBlock(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, b := range []*v3.IPAMBlock{New(netip.MustParsePrefix("10.0.0.0/29"), HostAffinity("node1"), now), New(netip.MustParsePrefix("fd00::/126"), LoadBalancer, now)} {
		text, err := json.Marshal(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, []byte{0, 1, 2, 9, 18, 27, 36, 45, 3})
		if err := Take(b, 1, "a", map[string]string{AttrNode: "node2"}); err != nil {
			f.Fatal(err)
		}
		Ask(b, "node2", netip.MustParseAddr("10.0.0.2"))
		SetKept(b, 1)
		SetRouted(b, b.Spec.SequenceNumber)
		Retire(b, 1, "a", false, time.Minute, now)
		if text, err = json.Marshal(b); err != nil {
			f.Fatal(err)
		}
		f.Add(text, []byte{64, 65, 130, 7})
	}
	f.Fuzz(func(t *testing.T, text, deeds []byte) {
		b := new(v3.IPAMBlock)
		if json.Unmarshal(text, b) != nil || Check(b) != nil {
			return
		}
		cidr := netip.MustParsePrefix(b.Spec.CIDR)
		size := len(b.Spec.Allocations)
		for _, d := range deeds[:min(len(deeds), 50)] {
			o, what := int(d%32)%size, d/32
			before := b.DeepCopy()
			b.Spec.SequenceNumber++
			do(t, b, cidr, o, what, now)
			if err := Check(b); err != nil {
				t.Fatalf("deed %d on ordinal %d: %v\nbefore %+v\nafter %+v", what, o, err, before.Spec, b.Spec)
			}
		}
		again := roundTrip(t, b)
		if err := Check(again); err != nil || KeptOf(again) != KeptOf(b) || !Same(again, b) || !reflect.DeepEqual(again.Spec.Unallocated, b.Spec.Unallocated) && len(b.Spec.Unallocated) > 0 {
			t.Fatalf("read again: %v\n%+v\nwas %+v", err, again.Spec, b.Spec)
		}
	})
}

// do does one thing to a block, and checks what it promises.
func do(t *testing.T, b *v3.IPAMBlock, cidr netip.Prefix, o int, what byte, now time.Time) {
	addr := AddrAt(cidr, o)
	if OrdinalOf(cidr, addr) != o || !cidr.Contains(addr) {
		t.Fatalf("ordinal %d of %s is %s, which is ordinal %d", o, cidr, addr, OrdinalOf(cidr, addr))
	}
	held := Handle(b, o)
	switch what {
	case 0, 1:
		free := b.Spec.Allocations[o] == nil
		err := Take(b, o, "h", map[string]string{AttrNode: "n"})
		if free != (err == nil && held != "h") || err == nil && Handle(b, o) != "h" {
			t.Fatalf("take ordinal %d, held by %q: %v", o, held, err)
		}
	case 2:
		Retire(b, o, held, false, 0, now)
		if held != "" && b.Spec.Unallocated[len(b.Spec.Unallocated)-1] != o {
			t.Fatalf("released ordinal %d is not at the tail of %v", o, b.Spec.Unallocated)
		}
	case 3:
		Retire(b, o, "h", true, time.Minute, now)
		if held != "" && held != "h" && Handle(b, o) != held {
			t.Fatalf("retired ordinal %d, which %q has", o, held)
		}
	case 4:
		if next := Reap(b, time.Minute, now); !next.IsZero() && !next.After(now) {
			t.Fatalf("the next to be reaped was due at %s already", next)
		}
	case 5:
		Ask(b, "n", addr)
		if node, which := Wanted(b); node != "n" || which != addr {
			t.Fatalf("asked for %s, reads as %q %s", addr, node, which)
		}
	case 6:
		SetKept(b, o)
		if got := KeptOf(b); b.Spec.Affinity != nil && got != min(o, Kept(len(b.Spec.Allocations))) {
			t.Fatalf("kept %d of %d, reads as %d", o, len(b.Spec.Allocations), got)
		}
	default:
		Answered(b)
		for _, l := range Loans(b) {
			if l.Node == Owner(b) || l.Node == "" || Handle(b, l.Ordinal) == "" {
				t.Fatalf("loan %+v", l)
			}
		}
		_, _, _, _ = Owner(b), Lends(b), Routed(b), Empty(b)
	}
}

func roundTrip(t *testing.T, b *v3.IPAMBlock) *v3.IPAMBlock {
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	again := new(v3.IPAMBlock)
	if err := json.Unmarshal(text, again); err != nil {
		t.Fatal(err)
	}
	return again
}
