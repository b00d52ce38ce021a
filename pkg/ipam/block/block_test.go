package block

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

var (
	testCIDR = netip.MustParsePrefix("10.0.0.0/28")
	testTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

func TestNames(t *testing.T) {
	for in, want := range map[string]string{"10.0.0.0/26": "10-0-0-0-26", "fd00:1::/122": "fd00-1---122"} {
		if got := Name(netip.MustParsePrefix(in)); got != want {
			t.Errorf("Name(%s) = %s, want %s", in, got, want)
		}
	}
	if got := AffinityName("node1", testCIDR); got != "node1-10-0-0-0-28" {
		t.Errorf("affinityName = %s", got)
	}
	long := AffinityName(strings.Repeat("n", 250), testCIDR)
	if want := strings.Repeat("n", 228) + "-10-0-0-0-28-6a0169d2bd6"; long != want { // Calico's
		t.Errorf("long affinity name %q, want %q", long, want)
	}
	if len(long) >= 253 || long == AffinityName(strings.Repeat("n", 249)+"m", testCIDR) {
		t.Errorf("long affinity name %q (%d characters) is too long or not unique", long, len(long))
	}
}

func TestNthBlock(t *testing.T) {
	for _, c := range []struct {
		pool string
		bits int
		n    uint64
		want string
	}{
		{"172.20.0.0/16", 26, 0, "172.20.0.0/26"},
		{"172.20.0.0/16", 26, 5, "172.20.1.64/26"},
		{"172.20.0.0/16", 26, 1023, "172.20.255.192/26"},
		{"10.0.0.0/8", 32, 1<<24 - 1, "10.255.255.255/32"},
		{"10.0.0.0/24", 24, 0, "10.0.0.0/24"},
		{"fd00:10::/64", 122, 3, "fd00:10::c0/122"},
		{"fd00:10::/104", 122, 1<<18 - 1, "fd00:10::ff:ffc0/122"},
	} {
		if got := Nth(netip.MustParsePrefix(c.pool), c.bits, c.n).String(); got != c.want {
			t.Errorf("Nth(%s, %d, %d) = %s, want %s", c.pool, c.bits, c.n, got, c.want)
		}
	}
}

func TestAddrAt(t *testing.T) {
	for _, s := range []string{"172.20.3.192/26", "fd00::ff:ffc0/122"} {
		cidr := netip.MustParsePrefix(s)
		for o := range Size(cidr) {
			a := AddrAt(cidr, o)
			if !cidr.Contains(a) || OrdinalOf(cidr, a) != o {
				t.Errorf("ordinal %d of %s: address %s, back to %d", o, cidr, a, OrdinalOf(cidr, a))
			}
		}
	}
}

// TestBlockWalk takes, retires and reaps at random: the block keeps its invariants, the FIFO its order, and no ordinal
// comes back before its cooldown has passed.
func TestBlockWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := New(testCIDR, "node1", testTime)
		now, cooldown := testTime, time.Duration(rapid.IntRange(0, 20).Draw(t, "cooldown"))*time.Second
		held, freed := map[int]string{}, map[int]time.Time{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 8).Draw(t, "pass")) * time.Second)
			o := rapid.IntRange(0, len(b.Spec.Allocations)-1).Draw(t, "ordinal")
			handle := rapid.SampledFrom([]string{"h.1", "h.2", "h.3"}).Draw(t, "handle")
			switch rapid.IntRange(0, 2).Draw(t, "op") {
			case 0:
				err := Take(b, o, handle, map[string]string{AttrPod: handle})
				_, cooling := freed[o]
				if wantErr := cooling || held[o] != "" && held[o] != handle; (err != nil) != wantErr {
					t.Fatalf("take %d by %s: %v; held by %q, cooling %v", o, handle, err, held[o], cooling)
				}
				if err == nil {
					held[o] = handle
				}
			case 1:
				Retire(b, o, handle, false, cooldown, now)
				if held[o] == handle {
					delete(held, o)
					if cooldown > 0 {
						freed[o] = now
					}
				}
			case 2:
				next := Reap(b, cooldown, now)
				for o, at := range freed {
					if !at.Add(cooldown).After(now) {
						delete(freed, o)
					} else if next.IsZero() || next.After(at.Add(cooldown)) {
						t.Fatalf("reap says the next is at %v, ordinal %d cools until %v", next, o, at.Add(cooldown))
					}
				}
			}
			if err := Check(b); err != nil {
				t.Fatal(err)
			}
			for o := range b.Spec.Allocations {
				if Handle(b, o) != held[o] {
					t.Fatalf("ordinal %d is held by %q, want %q", o, Handle(b, o), held[o])
				}
				if _, cooling := freed[o]; cooling != (b.Spec.Allocations[o] != nil && held[o] == "") {
					t.Fatalf("ordinal %d: cooling %v", o, cooling)
				}
			}
			used := map[int]bool{}
			for _, p := range b.Spec.Allocations {
				if p != nil {
					used[*p] = true
				}
			}
			if len(used) != len(b.Spec.Attributes) {
				t.Fatalf("%d attributes, %d pointed at", len(b.Spec.Attributes), len(used))
			}
		}
	})
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	seven := 7
	for want, spoil := range map[string]func(*v3.IPAMBlockSpec){
		"spec.cidr":        func(s *v3.IPAMBlockSpec) { s.CIDR = "10.0.0.0" },
		"host bits":        func(s *v3.IPAMBlockSpec) { s.CIDR = "10.0.0.1/28" },
		"spec.allocations": func(s *v3.IPAMBlockSpec) { s.Allocations = s.Allocations[1:] },
		"ordinal 3 twice":  func(s *v3.IPAMBlockSpec) { s.Unallocated = append(s.Unallocated, 3) },
		"ordinal 99":       func(s *v3.IPAMBlockSpec) { s.Unallocated[0] = 99 },
		"ordinal 0":        func(s *v3.IPAMBlockSpec) { s.Unallocated = s.Unallocated[1:] },
		"attribute 7 of 0": func(s *v3.IPAMBlockSpec) { s.Unallocated = s.Unallocated[1:]; s.Allocations[0] = &seven },
	} {
		b := New(testCIDR, "node1", testTime)
		spoil(&b.Spec)
		if err := Check(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check: %v, want an error with %q", err, want)
		}
	}
}

// TestClockJumpsBack: an address that was released in what is the future now does not cool down for ever.
func TestClockJumpsBack(t *testing.T) {
	b := New(testCIDR, "node1", testTime)
	if err := Take(b, 3, "h.1", nil); err != nil {
		t.Fatal(err)
	}
	const cooldown = time.Minute
	Retire(b, 3, "h.1", false, cooldown, testTime)
	if Reap(b, cooldown, testTime.Add(30*time.Second)); Handle(b, 3) != "" || b.Spec.Allocations[3] == nil {
		t.Error("freed before its cooldown has passed")
	}
	Reap(b, cooldown, testTime.Add(-24*time.Hour))
	if b.Spec.Allocations[3] != nil || Check(b) != nil {
		t.Error("still cooling down after the clock jumped back by a day")
	}
}
