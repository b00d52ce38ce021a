package uplink

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// notUplinks are the devices that first-found passes over (Calico's list).
var notUplinks = regexp.MustCompile(`^(docker|cbr|dummy|podman|virbr|lxcbr|veth|lo|br-|cali|tunl|flannel|kube-ipvs|cni|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|nodelocaldns)`)

// ours are the devices that Margay or Calico makes: no method finds them, since packets in a tunnel must not leave by it.
var ours = regexp.MustCompile(`^(cali|tunl|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali)`)

// address is one address of the node as the kernel has it.
type address struct {
	Uplink
	on        string // name of the device that has the address: that of Uplink, or a loopback or dummy device
	index     int    // of that device
	up        bool   // that device is
	secondary bool   // IPv4: the device had another address of the subnet first
	bare      bool   // without a subnet, and not the one that the node reaches the world with
	passing   bool   // IPv6: tentative, deprecated or temporary
	guest     bool   // looks as if it could move to another node; see follower.judge
}

// fallback is the rank of what the default method finds without an InternalIP.
const fallback = 1 << 16

// choose picks the address to use: the best grade (see grade), and of those the current one, then the first. named are
// addresses that the method names rather than guesses.
func (s Setting) choose(have []address, named []netip.Addr, cur Uplink) (best address, grade int, ok bool) {
	var least [3]int
	for _, a := range have {
		g, allowed := s.grade(a, named)
		if !allowed {
			continue
		}
		key := [3]int{g, 1, 1}
		if a.Addr.Addr() == cur.Addr.Addr() {
			key[1] = 0
			if a.Dev == cur.Dev {
				key[2] = 0
			}
		}
		if !ok || slices.Compare(key[:], least[:]) < 0 {
			best, grade, least, ok = a, g, key, true
		}
	}
	if ok && s.kind == explicit && s.bits >= 0 {
		best.Addr = netip.PrefixFrom(s.addr, s.bits)
	}
	return best, grade, ok
}

// grade rates one address, 0 best: twice its rank by the method, and 1 for a guest. Not ok when the method does not allow
// it.
func (s Setting) grade(a address, named []netip.Addr) (grade int, ok bool) {
	if !a.up {
		return 0, false
	}
	if i := slices.Index(named, a.Addr.Addr()); i >= 0 {
		if s.kind == canReach {
			i = 0 // the order of a name's addresses means nothing
		}
		return 2 * i, true
	}
	rank, ok := s.guess(a)
	if !ok || a.passing {
		return 0, false
	}
	grade = 2 * rank
	if a.guest {
		grade++
	}
	return grade, true
}

// guess ranks an address that nobody named, 0 best.
func (s Setting) guess(a address) (rank int, ok bool) {
	matches := func(e *regexp.Regexp) bool { return e.MatchString(a.on) }
	switch s.kind {
	case byDefault:
		return fallback, !notUplinks.MatchString(a.on)
	case firstFound:
		return 0, !notUplinks.MatchString(a.on)
	case skipInterface:
		return 0, !notUplinks.MatchString(a.on) && !slices.ContainsFunc(s.exprs, matches)
	case interfaces:
		rank = slices.IndexFunc(s.exprs, matches)
	case cidr:
		rank = slices.IndexFunc(s.nets, func(p netip.Prefix) bool { return p.Contains(a.Addr.Addr()) })
	default:
		return 0, false
	}
	return rank, rank >= 0
}

// named returns the addresses of the family that the setting names, without asking anybody.
func (s Setting) named(internal []netip.Addr) (out []netip.Addr) {
	switch s.kind {
	case explicit:
		return []netip.Addr{s.addr}
	case byDefault, internalIP:
		return s.ofFamily(internal)
	}
	return nil
}

func (s Setting) ofFamily(addrs []netip.Addr) (out []netip.Addr) {
	for _, a := range addrs {
		if a = a.Unmap(); a.IsValid() && a.Is6() == s.family6 {
			out = append(out, a)
		}
	}
	return out
}

// failure says why no address was found, and the way out.
func (s Setting) failure(have []address, named []netip.Addr) error {
	what := "could be the node's"
	switch s.kind {
	case explicit:
		return fmt.Errorf("node address %s is on no device that is up: put it on one, or set another, or autodetect%s", s.addr, seen(have))
	case internalIP:
		if len(named) == 0 {
			return fmt.Errorf("node object has no InternalIP of %s: set another autodetection method, or the address itself%s", s.family(), seen(have))
		}
		return fmt.Errorf("node object's InternalIP %s is on no device that is up: set another autodetection method, or the address itself%s", join(named), seen(have))
	case canReach:
		return fmt.Errorf("packets to %s leave with address %s, which is no global one of a device that is up: set another autodetection method, or the address itself%s", s.target, join(named), seen(have))
	case interfaces, skipInterface, cidr:
		what = "autodetection method " + s.text + " allows"
	}
	return fmt.Errorf("no device that is up has an %s address that %s: set the address itself, or a method that names it, such as interface=REGEX or cidr=CIDR%s", s.family(), what, seen(have))
}

// seen lists the first few addresses that were there to choose from.
func seen(have []address) string {
	const most = 5
	var list []string
	for _, a := range have {
		if !a.up || len(list) == most {
			continue
		}
		list = append(list, a.on+" "+a.Addr.String())
	}
	if len(list) == 0 {
		return "; there is none at all"
	}
	return "; there are " + strings.Join(list, ", ")
}

func join(addrs []netip.Addr) string {
	var list []string
	for _, a := range addrs {
		list = append(list, a.String())
	}
	return strings.Join(list, ", ")
}

// odd says in one line what an operator should know of an address that was guessed though the Node object has another
// one; "" for nothing.
func (s Setting) odd(up Uplink, internal []netip.Addr) string {
	internal = s.ofFamily(internal)
	if len(internal) == 0 || slices.Contains(internal, up.Addr.Addr()) {
		return ""
	}
	switch s.kind {
	case byDefault:
		return fmt.Sprintf("Node object's InternalIP %s is on no device that is up; using first-found %s", join(internal), up)
	case firstFound, skipInterface:
		return fmt.Sprintf("Node object's InternalIP %s is another address; using %s by %s", join(internal), up, s.text)
	}
	return ""
}

// describe names the method in a sentence.
func (s Setting) describe() string {
	switch s.kind {
	case byDefault:
		return "autodetection"
	case explicit:
		return "the setting " + s.text
	}
	return "autodetection method " + s.text
}
