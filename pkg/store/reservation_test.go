package store

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/margay-net/margay/pkg/model"
)

func TestReserved(t *testing.T) {
	s := New()
	p := netip.MustParsePrefix
	s.SetReservation("a", []netip.Prefix{p("10.0.1.0/24"), p("fd00::/64")})
	s.SetReservation("b", []netip.Prefix{p("10.0.0.0/24"), p("10.0.1.0/24")})
	if got, want := s.Reserved(), []netip.Prefix{p("10.0.0.0/24"), p("10.0.1.0/24"), p("fd00::/64")}; !slices.Equal(got, want) {
		t.Errorf("reserved %v, want %v", got, want)
	}
	s.DeleteReservation("a")
	s.SetReservation("b", nil)
	if got := s.Reserved(); len(got) != 0 {
		t.Errorf("reserved %v, want nothing", got)
	}
}

// Routes depend on loans: a change of them is told, the same loans in another order are no change.
func TestLoansAreTold(t *testing.T) {
	s := New()
	cidr, a, b := netip.MustParsePrefix("10.0.0.0/26"), netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.10")
	put := func(loans ...model.Loan) bool {
		s.SetBlock(model.Block{CIDR: cidr, Node: "n1", Loans: model.MakeLoans(loans)})
		select {
		case <-s.Changed():
			return true
		default:
			return false
		}
	}
	x, y := model.Loan{Addr: a, Node: "n2"}, model.Loan{Addr: b, Node: "n3"}
	if !put() || !put(x, y) || put(y, x) || !put(y) {
		t.Error("changes are told that are none, or not told")
	}
	if got := s.Blocks()[0].Loans.List(); !slices.Equal(got, []model.Loan{y}) {
		t.Errorf("loans %v", got)
	}
}
