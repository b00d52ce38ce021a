package pods

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/selector"
)

// ErrNoPool means that nothing is wrong with the annotations, and no pool gives the pod an address all the same.
var ErrNoPool = errors.New("no IP pool gives addresses to this pod")

// Parse reads a selector; see selector.Cache.
type Parse func(text string) (*selector.Selector, error)

// Pools returns the pools that a pod of this namespace may have addresses of, in order of preference, of all pools by
// name; nil: all that give addresses without being asked for. A pool counts as Disabled when it gives out nothing on this
// node whoever asks, as Elsewhere when its node selector does not select the node. The error joins all that is wrong.
func (w Wish) Pools(ns Namespace, all []model.Pool, parse Parse) ([]model.Pool, error) {
	if len(w.Pools4.Items)+len(w.Pools6.Items)+len(w.Families.Items) == 0 && !slices.ContainsFunc(all, selects) {
		return nil, nil
	}
	out := []model.Pool{}
	var errs []error
	for _, six := range []bool{false, true} {
		name, asked := "IPv4", w.Pools4
		if six {
			name, asked = "IPv6", w.Pools6
		}
		wanted := slices.Contains(w.Families.Items, name)
		if len(w.Families.Items) > 0 && !wanted {
			continue
		}
		pools, err := named(asked, all, six)
		if len(asked.Items) == 0 {
			if pools = automatic(ns, all, six, parse); len(pools) == 0 && wanted {
				err = fmt.Errorf("%s: no IP pool gives pods of namespace %s %s addresses on this node (%s): make or enable one, or name another family", w.Families.from, ns.Name, name, whyNot(ns, all, six, parse))
			}
		}
		errs = append(errs, err)
		out = append(out, pools...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: %s; %s", ErrNoPool, whyNot(ns, all, false, parse), whyNot(ns, all, true, parse))
	}
	return out, nil
}

// selects says whether a pool has a namespace selector that leaves namespaces out.
func selects(p model.Pool) bool { return p.NamespaceSelector != "" && p.NamespaceSelector != "all()" }

// named are the pools that an annotation names.
func named(asked list, all []model.Pool, six bool) (out []model.Pool, err error) {
	var errs []error
	for _, item := range asked.Items {
		p, why := find(item, all, six)
		if why != "" {
			errs = append(errs, fmt.Errorf("%s: %q %s", asked.from, item, why))
			continue
		}
		p.Elsewhere = false // who asks for it by name gets it on any node
		if !slices.ContainsFunc(out, func(o model.Pool) bool { return o.Name == p.Name }) {
			out = append(out, p)
		}
	}
	return out, errors.Join(errs...)
}

// find returns the pool of a name or CIDR, or why there is none to use.
func find(item string, all []model.Pool, six bool) (p model.Pool, why string) {
	family := "IPv4"
	if six {
		family = "IPv6"
	}
	cidr, err := netip.ParsePrefix(item)
	i := slices.IndexFunc(all, func(p model.Pool) bool {
		if err == nil {
			return p.CIDR == cidr.Masked()
		}
		return p.Name == item
	})
	if i < 0 {
		return p, "is neither the name nor the CIDR of an IP pool: kubectl get ippools shows them"
	}
	switch p = all[i]; {
	case p.CIDR.Addr().Is6() != six:
		return p, "is no " + family + " pool: name it in the other annotation"
	case p.Disabled:
		return p, "gives out no addresses: it is disabled, overlaps an older pool, is being deleted, or the node has no " + family + " address; correct it or name another one"
	case !p.Workload:
		return p, "is not for pods: add Workload to its spec.allowedUses or name another one"
	}
	return p, ""
}

// automatic are the pools that give pods of a namespace addresses without being asked for.
func automatic(ns Namespace, all []model.Pool, six bool, parse Parse) (out []model.Pool) {
	for _, p := range all {
		if p.CIDR.Addr().Is6() == six && reason(p, ns, parse) == "" {
			out = append(out, p)
		}
	}
	return out
}

// reason says why a pool gives pods of a namespace no addresses without being asked for; "" when it does.
func reason(p model.Pool, ns Namespace, parse Parse) string {
	switch {
	case p.Disabled:
		return "disabled"
	case !p.Workload:
		return "not for pods"
	case p.Manual:
		return "to be asked for by name"
	case p.Elsewhere:
		return "not for this node"
	case p.NamespaceSelector == "":
		return ""
	}
	s, err := parse(p.NamespaceSelector)
	switch {
	case err != nil:
		return "namespaceSelector does not parse"
	case !s.Matches(ns.Labels):
		return "not for this namespace"
	}
	return ""
}

// whyNot says of each pool of a family why it gives nothing.
func whyNot(ns Namespace, all []model.Pool, six bool, parse Parse) string {
	family := "IPv4"
	if six {
		family = "IPv6"
	}
	var parts []string
	for _, p := range all {
		if p.CIDR.Addr().Is6() != six {
			continue
		}
		if why := reason(p, ns, parse); why != "" {
			parts = append(parts, p.Name+" is "+why)
		}
	}
	switch {
	case len(parts) == 0:
		return "there is no " + family + " pool"
	case len(parts) > 5:
		parts = append(parts[:5], fmt.Sprintf("and %d more", len(parts)-5))
	}
	return strings.Join(parts, ", ")
}
