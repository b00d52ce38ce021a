package nft

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/margay-net/margay/pkg/dataplane/nft/nattest"
)

func TestSpans(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []netip.Prefix
		want []string // from and to
	}{
		{"none", nil, nil},
		{"one", nattest.Prefixes("172.20.0.0/16"), []string{"172.20.0.0", "172.21.0.0"}},
		{"neighbours stay apart", nattest.Prefixes("10.0.0.128/25", "10.0.0.0/25"), []string{"10.0.0.0", "10.0.0.128", "10.0.0.128", "10.0.1.0"}},
		{"one in the other", nattest.Prefixes("10.0.0.0/26", "10.0.0.0/8", "10.1.2.3/32"), []string{"10.0.0.0", "11.0.0.0"}},
		{"twice, not masked", nattest.Prefixes("10.0.0.1/24", "10.0.0.2/24"), []string{"10.0.0.0", "10.0.1.0"}},
		{"to the end", nattest.Prefixes("224.0.0.0/3", "255.255.255.255/32"), []string{"224.0.0.0", "invalid IP"}},
		{"all", nattest.Prefixes("0.0.0.0/0", "10.0.0.0/8"), []string{"0.0.0.0", "invalid IP"}},
		{"the other family is passed over", nattest.Prefixes("fd00::/64", "10.0.0.1/32"), []string{"10.0.0.1", "10.0.0.2"}},
	} {
		var have []string
		for _, s := range spansOf(c.in, false) {
			have = append(have, s.from.String(), s.to.String())
		}
		if !slices.Equal(have, c.want) {
			t.Errorf("%s: have %v, want %v", c.name, have, c.want)
		}
	}
}

// Whatever the prefixes, an address is in the spans if it is in one of them, and the elements say the same as the spans.
func TestSpansAreTheirPrefixes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		six := rapid.Bool().Draw(t, "six")
		address := rapid.Custom(func(t *rapid.T) netip.Addr { // few, close to each other and to the ends
			b := make([]byte, 4)
			if six {
				b = make([]byte, 16)
			}
			for i := range b {
				b[i] = rapid.SampledFrom([]byte{0, 255}).Draw(t, "byte")
			}
			b[len(b)-1] = rapid.Byte().Draw(t, "last")
			a, _ := netip.AddrFromSlice(b)
			return a
		})
		prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
			a := address.Draw(t, "address")
			return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
		})
		in := rapid.SliceOfN(prefix, 0, 6).Draw(t, "prefixes")
		spans := spansOf(in, six)
		for range 10 {
			a := address.Draw(t, "probe")
			want := slices.ContainsFunc(in, func(p netip.Prefix) bool { return p.Contains(a) })
			have := slices.ContainsFunc(spans, func(s span) bool { return a.Compare(s.from) >= 0 && (!s.to.IsValid() || a.Less(s.to)) })
			if want != have {
				t.Fatalf("%s in %v: %v", a, spans, have)
			}
		}
		listed := elements(spans)
		slices.Reverse(listed)
		if back, ok := spansFrom(listed); !ok || !slices.Equal(back, spans) {
			t.Fatalf("%v came back as %v, %v", spans, back, ok)
		}
	})
}

func TestForeignElements(t *testing.T) {
	key := netip.MustParseAddr("10.0.0.0").AsSlice()
	for name, e := range map[string][]element{
		"end alone":    {{key: key, flags: unix.NFT_SET_ELEM_INTERVAL_END}},
		"start twice":  {{key: key}, {key: netip.MustParseAddr("10.0.0.9").AsSlice()}},
		"other length": {{key: key[:3]}},
		"all the rest": {{flags: 2}}, // NFT_SET_ELEM_CATCHALL
	} {
		if spans, ok := spansFrom(e); ok {
			t.Errorf("%s: taken for %v", name, spans)
		}
	}
}

func TestDiff(t *testing.T) {
	have := spansOf(nattest.Prefixes("10.0.0.0/24", "10.0.2.0/24", "10.0.3.0/24"), false)
	want := spansOf(nattest.Prefixes("10.0.0.0/25", "10.0.2.0/24", "10.0.5.0/24"), false)
	remove, add := diff(have, want)
	if len(remove) != 2 || len(add) != 2 || remove[0].to != netip.MustParseAddr("10.0.1.0") || add[0].to != netip.MustParseAddr("10.0.0.128") {
		t.Errorf("remove %v, add %v", remove, add)
	}
}
