package pods

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// prefix of all annotations that this package reads.
const prefix = "cni.projectcalico.org/"

// Annotations, behind the prefix.
const (
	annPools4   = "ipv4pools"
	annPools6   = "ipv6pools"
	annFamilies = "ipFamilies"
	annAddrs    = "ipAddrs"
	annNoIPAM   = "ipAddrsNoIpam"
	annMAC      = "hwAddr"
	annFloating = "floatingIPs"
	annSources  = "allowedSourcePrefixes"
)

var (
	podAnnotations       = []string{annPools4, annPools6, annFamilies, annAddrs, annNoIPAM, annMAC, annFloating, annSources}
	namespaceAnnotations = []string{annPools4, annPools6, annFamilies}
)

// Wish is what the annotations of a pod and of its namespace ask for. The zero value asks for nothing.
type Wish struct {
	Pools4, Pools6 list           // names or CIDRs of pools
	Families       list           // IPv4, IPv6
	Addrs          []netip.Addr   // static ones, at most one of each family
	NoIPAM         bool           // IPAM has no part in Addrs
	MAC            string         // in colon form; "": the kernel's choice
	Floating       []netip.Addr   // sorted, each once
	Sources        []netip.Prefix // that the pod may send from beside its own addresses
}

// list is a list and the annotation that it comes from, as errors name it.
type list struct {
	Items []string // nil: not asked for
	from  string
}

// Read reads the annotations of a pod and of its namespace. The error joins all that is wrong; each part names the
// annotation, its value and the way out.
func Read(p Pod, ns Namespace) (w Wish, err error) {
	if len(p.Annotations) == 0 && len(ns.Annotations) == 0 {
		return w, nil
	}
	r := reader{pod: p, ns: ns}
	w.Pools4, w.Pools6 = r.list(annPools4), r.list(annPools6)
	w.Families = r.families()
	w.Addrs, w.NoIPAM = r.static()
	w.MAC = r.mac()
	w.Floating = r.floating()
	w.Sources = r.sources()
	return w, errors.Join(r.errs...)
}

// reader takes annotations, and notes what is wrong with them.
type reader struct {
	pod  Pod
	ns   Namespace
	errs []error
}

// find returns the value of an annotation that counts, and whose it is.
func (r *reader) find(name string) (value, from string) {
	if v := r.pod.Annotations[prefix+name]; v != "" {
		return v, "annotation " + prefix + name + " of pod " + r.pod.Namespace + "/" + r.pod.Name
	}
	if v := r.ns.Annotations[prefix+name]; v != "" && slices.Contains(namespaceAnnotations, name) {
		return v, "annotation " + prefix + name + " of namespace " + r.ns.Name
	}
	return "", ""
}

func (r *reader) bad(from, value, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s, value %s: %s", from, value, fmt.Sprintf(format, args...)))
}

// list reads a JSON list of strings; an empty one counts as none.
func (r *reader) list(name string) list {
	value, from := r.find(name)
	if value == "" {
		return list{}
	}
	var items []string
	if err := json.Unmarshal([]byte(value), &items); err != nil {
		example := map[string]string{annPools4: `["pool-a"]`, annPools6: `["pool-a"]`, annFamilies: `["IPv4"]`, annSources: `["10.0.0.0/8"]`}[name]
		if example == "" {
			example = `["10.0.0.1"]`
		}
		r.bad(from, value, "it is no JSON list of strings: write it like %s, or remove the annotation", example)
		return list{}
	}
	if len(items) == 0 {
		return list{from: from}
	}
	return list{items, from}
}

func (r *reader) families() list {
	l := r.list(annFamilies)
	value, _ := r.find(annFamilies)
	if l.from != "" && len(l.Items) == 0 {
		r.bad(l.from, value, `it names no family: write ["IPv4"], ["IPv6"] or ["IPv4", "IPv6"], or remove the annotation`)
	}
	for _, f := range l.Items {
		if f != "IPv4" && f != "IPv6" {
			r.bad(l.from, value, "%q is no family: IPv4 and IPv6 are", f)
		}
	}
	return l
}

// static reads ipAddrs or ipAddrsNoIpam.
func (r *reader) static() (addrs []netip.Addr, noIPAM bool) {
	name := annAddrs
	if value, from := r.find(annNoIPAM); value != "" {
		name, noIPAM = annNoIPAM, true
		if other, _ := r.find(annAddrs); other != "" {
			r.bad(from, value, "the pod has annotation %s, too, and only one of them can count: remove one", prefix+annAddrs)
		}
	}
	l := r.list(name)
	value, _ := r.find(name)
	if l.from != "" && len(l.Items) == 0 {
		r.bad(l.from, value, `it names no address: write it like ["10.0.0.1"], or remove the annotation`)
	}
	for _, a := range r.addrs(l, value) {
		if slices.ContainsFunc(addrs, func(o netip.Addr) bool { return o.Is4() == a.Is4() }) {
			r.bad(l.from, value, "%s is the second address of its family: an interface gets one of each", a)
			continue
		}
		addrs = append(addrs, a)
	}
	slices.SortFunc(addrs, netip.Addr.Compare) // IPv4 first
	return addrs, noIPAM
}

// addrs are a list's addresses, those that can be a pod's.
func (r *reader) addrs(l list, value string) (out []netip.Addr) {
	for _, item := range l.Items {
		a, err := netip.ParseAddr(item)
		a = a.Unmap()
		switch {
		case err != nil:
			r.bad(l.from, value, "%q is no IP address (a prefix length does not belong to it)", item)
		case !a.IsGlobalUnicast() || a.Zone() != "":
			r.bad(l.from, value, "%s cannot be a pod's address: it is not a global unicast one", item)
		default:
			out = append(out, a)
		}
	}
	return out
}

func (r *reader) mac() string {
	value, from := r.find(annMAC)
	if value == "" {
		return ""
	}
	mac, err := net.ParseMAC(value)
	switch {
	case err != nil || len(mac) != 6:
		r.bad(from, value, "it is no Ethernet address: write six bytes like 02:00:00:00:00:01")
	case mac[0]&1 != 0:
		r.bad(from, value, "it is a group's address: the first byte must be even, as in %02x:…", mac[0]&^1)
	case mac.String() == "00:00:00:00:00:00":
		r.bad(from, value, "no interface can have it: write another one, like 02:00:00:00:00:01")
	default:
		return mac.String()
	}
	return ""
}

func (r *reader) floating() []netip.Addr {
	l := r.list(annFloating)
	value, _ := r.find(annFloating)
	addrs := r.addrs(l, value)
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

func (r *reader) sources() (out []netip.Prefix) {
	l := r.list(annSources)
	value, _ := r.find(annSources)
	for _, item := range l.Items {
		p, err := netip.ParsePrefix(item)
		if err != nil {
			r.bad(l.from, value, "%q is no CIDR: write it like 10.0.0.0/8", item)
			continue
		}
		out = append(out, p.Masked())
	}
	return out
}
