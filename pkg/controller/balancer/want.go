package balancer

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/controller/cluster"
	"github.com/margay-net/margay/pkg/kube"
	"github.com/margay-net/margay/pkg/selector"
)

// Annotations of a Service, and the class that is ours (Calico's names).
const (
	annPools4 = "projectcalico.org/ipv4pools"
	annPools6 = "projectcalico.org/ipv6pools"
	annAddrs  = "projectcalico.org/loadBalancerIPs"

	class = "calico"
)

// handleOf is the handle of a Service's addresses (Calico's form).
func handleOf(k kube.Key, uid string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(k.Name + "-" + k.Namespace + "-" + uid)))
	return "lb-" + strings.NewReplacer("-", "", "_", "", ".", "").Replace(base64.RawURLEncoding.EncodeToString(sum[:]))
}

// managed says whether a Service gets its addresses from us.
func managed(s cluster.Service, assign v3.AssignIPs) bool {
	if !s.LoadBalancer || s.Class != "" && s.Class != class {
		return false
	}
	if assign != v3.AssignRequestedServicesOnly {
		return true
	}
	return s.Class == class || s.LoadBalancerIP != "" || s.Annotations[annPools4] != "" || s.Annotations[annPools6] != "" || s.Annotations[annAddrs] != ""
}

// want is what a Service asks for: just these addresses, or one of each family from one of these pools, which are in order.
type want struct {
	addrs    []netip.Addr
	pools    map[bool][]cluster.Pool // by family: IPv6 or not
	families []bool
}

// wantOf reads what a Service asks for. What cannot be is an error that names the annotation or the field.
func wantOf(s cluster.Service, pools []cluster.Pool, labels map[string]string) (want, error) {
	w := want{families: s.Families6, pools: map[bool][]cluster.Pool{}}
	if text := s.Annotations[annAddrs]; text != "" || s.LoadBalancerIP != "" {
		what := "annotation " + annAddrs
		list := []string{s.LoadBalancerIP}
		if text == "" {
			what = "spec.loadBalancerIP"
		} else if err := json.Unmarshal([]byte(text), &list); err != nil {
			return w, fmt.Errorf(`%s is %q: want a JSON list of addresses, such as ["10.0.0.7"]`, what, text)
		}
		var err error
		w.addrs, err = readAddrs(what, list)
		return w, err
	}
	for _, family6 := range []bool{false, true} {
		key := annPools4
		if family6 {
			key = annPools6
		}
		var err error
		if text := s.Annotations[key]; text != "" {
			w.pools[family6], err = named(key, text, family6, pools)
		} else {
			w.pools[family6] = unnamed(family6, pools, labels)
		}
		if err != nil {
			return w, err
		}
	}
	return w, nil
}

func readAddrs(what string, list []string) (out []netip.Addr, err error) {
	count := map[bool]int{}
	for _, text := range list {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("%s has %q, which is no address", what, text)
		}
		a = a.Unmap()
		if count[a.Is6()]++; count[a.Is6()] > 1 {
			return nil, fmt.Errorf("%s has two addresses of one family: want one of each at most", what)
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s names no address", what)
	}
	return out, nil
}

// gives says whether Services may have addresses of a pool.
func gives(p cluster.Pool) bool { return p.LoadBalancer && p.Err == "" && p.CIDR.IsValid() }

// named returns the pools that an annotation names, by name or CIDR.
func named(key, text string, family6 bool, pools []cluster.Pool) (out []cluster.Pool, err error) {
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) == 0 {
		return nil, fmt.Errorf(`annotation %s is %q: want a JSON list of pools, such as ["pool1"]`, key, text)
	}
	for _, name := range list {
		i := slices.IndexFunc(pools, func(p cluster.Pool) bool { return p.Name == name || p.CIDR.IsValid() && p.CIDR.String() == name })
		switch {
		case i < 0:
			return nil, fmt.Errorf("annotation %s names %q: there is no such IP pool", key, name)
		case !gives(pools[i]):
			return nil, fmt.Errorf("annotation %s names %q: that IP pool has no LoadBalancer in spec.allowedUses", key, name)
		case pools[i].CIDR.Addr().Is6() != family6:
			return nil, fmt.Errorf("annotation %s names %q: that IP pool is of the other family", key, name)
		}
		out = append(out, pools[i])
	}
	return out, nil
}

// unnamed returns the pools that a Service of a namespace with these labels may have addresses of.
func unnamed(family6 bool, pools []cluster.Pool, labels map[string]string) (out []cluster.Pool) {
	for _, p := range pools {
		if !gives(p) || p.Manual || p.CIDR.Addr().Is6() != family6 {
			continue
		}
		if sel, err := selector.Parse(p.NamespaceSelector); err == nil && sel.Matches(labels) {
			out = append(out, p)
		}
	}
	return out
}

// held is an address that a Service has.
type held struct {
	block   string
	cidr    netip.Prefix
	ordinal int
	addr    netip.Addr
	seq     uint64
}

// compare says what of that which a Service has it keeps and gives back, and what it lacks: addresses that it asks for, and
// families.
func (w *want) compare(have []held) (keep, back []held, lackAddrs []netip.Addr, lack6 []bool) {
	got := map[bool]bool{}
	for _, h := range have {
		family6 := h.addr.Is6()
		fits := slices.Contains(w.addrs, h.addr)
		if w.addrs == nil {
			fits = !got[family6] && slices.Contains(w.families, family6) &&
				slices.ContainsFunc(w.pools[family6], func(p cluster.Pool) bool { return p.CIDR.Contains(h.addr) })
		}
		if !fits {
			back = append(back, h)
			continue
		}
		got[family6] = true
		keep = append(keep, h)
	}
	for _, a := range w.addrs {
		if !slices.ContainsFunc(keep, func(h held) bool { return h.addr == a }) {
			lackAddrs = append(lackAddrs, a)
		}
	}
	for _, family6 := range w.families {
		if w.addrs == nil && !got[family6] {
			lack6 = append(lack6, family6)
		}
	}
	return keep, back, lackAddrs, lack6
}
