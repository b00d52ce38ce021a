package uplink

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Uplink is the node's address of one family. The zero value means none.
type Uplink struct {
	Addr netip.Prefix // with the length of the subnet's prefix, not masked
	Dev  string       // name of the device that packets between nodes leave by
	MTU  int          // of the device, bytes
}

func (u Uplink) String() string {
	if u == (Uplink{}) {
		return "none"
	}
	return u.Dev + " " + u.Addr.String()
}

// kind is a way to find the node's address.
type kind string

// The methods' names are Calico's; those with a value are written kind=value.
const (
	byDefault     kind = "" // internalIP, then firstFound
	none          kind = "none"
	explicit      kind = "address"
	firstFound    kind = "first-found"
	canReach      kind = "can-reach"
	interfaces    kind = "interface"
	skipInterface kind = "skip-interface"
	cidr          kind = "cidr"
	internalIP    kind = "kubernetes-internal-ip"
)

const methods = "kubernetes-internal-ip, first-found, can-reach=ADDRESS, interface=REGEX,..., skip-interface=REGEX,... or cidr=CIDR,..."

// Setting says how the node's address of one family is found. The zero value is the default method, IPv4.
type Setting struct {
	family6 bool
	kind    kind
	text    string           // of the method or address, for messages
	addr    netip.Addr       // explicit
	bits    int              // explicit: prefix length; -1: the device's
	exprs   []*regexp.Regexp // interfaces, skipInterface
	nets    []netip.Prefix   // cidr: those of the family, masked
	target  string           // canReach: address or name
}

// ParseSetting reads the variables IP and IP_AUTODETECTION_METHOD, or IP6 and IP6_AUTODETECTION_METHOD (Calico's names).
//
// ip is an address, with or without prefix length, "autodetect" or "none"; "" is autodetect for IPv4 and none for IPv6.
// method counts only with autodetect:
//
//	kubernetes-internal-ip        the Node object's InternalIP, which a device of the node must have
//	first-found                   any device but those that are known to be something else (docker, veth, …)
//	can-reach=ADDRESS             the source address of packets to an address or name; none is sent
//	interface=REGEX,...           a device whose name has a match of one of the expressions, the first preferred
//	skip-interface=REGEX,...      first-found, without these, too
//	cidr=CIDR,...                 an address in one of the networks, the first preferred
//	""                            kubernetes-internal-ip if it can be done, else first-found
func ParseSetting(ip, method string, family6 bool) (Setting, error) {
	s := Setting{family6: family6}
	switch {
	case ip == "none" || ip == "" && family6:
		s.kind, s.text = none, "none"
		return s, nil
	case ip == "autodetect" || ip == "":
		return s, s.parseMethod(method)
	}
	return s, s.parseAddr(ip)
}

// None tells that the node is to have no address of this family.
func (s Setting) None() bool { return s.kind == none }

// String returns the method or address as it was set.
func (s Setting) String() string { return s.text }

// family is the family's name for messages.
func (s Setting) family() string {
	if s.family6 {
		return "IPv6"
	}
	return "IPv4"
}

func (s *Setting) parseAddr(text string) error {
	s.kind, s.text, s.bits = explicit, text, -1
	bad := fmt.Errorf("node address %q: want an %s address that other nodes can reach, autodetect or none", text, s.family())
	addr, err := netip.ParseAddr(text)
	if strings.Contains(text, "/") {
		var p netip.Prefix
		p, err = netip.ParsePrefix(text)
		addr, s.bits = p.Addr(), p.Bits()
	}
	if err != nil || !s.fits(addr) {
		return bad
	}
	s.addr = addr
	return nil
}

// fits tells whether an address could be a node's, by itself.
func (s *Setting) fits(a netip.Addr) bool {
	return a.Is6() == s.family6 && !a.Is4In6() && a.Zone() == "" && a.IsGlobalUnicast()
}

func (s *Setting) parseMethod(text string) error {
	s.text = text
	name, value, hasValue := strings.Cut(text, "=")
	s.kind = kind(name)
	if hasValue != slices.Contains([]kind{canReach, interfaces, skipInterface, cidr}, s.kind) {
		s.kind = "?"
	}
	switch s.kind {
	case byDefault, firstFound, internalIP:
		return nil
	case canReach:
		return s.parseTarget(value)
	case interfaces, skipInterface:
		return s.parseExprs(value)
	case cidr:
		return s.parseNets(value)
	}
	return fmt.Errorf("autodetection method %q: want %s", text, methods)
}

func (s *Setting) parseTarget(value string) error {
	s.target = strings.TrimSpace(value)
	addr, err := netip.ParseAddr(s.target)
	switch {
	case err == nil && (addr.Is6() != s.family6 || addr.Is4In6() || addr.Zone() != ""):
		return fmt.Errorf("autodetection method %q: want an %s address or a name", s.text, s.family())
	case err != nil && !isName(s.target):
		return fmt.Errorf("autodetection method %q: want one address, without port or prefix length, or one name", s.text)
	}
	return nil
}

// isName tells a name that a resolver can be asked for from a mistyped address.
func isName(s string) bool {
	labels := regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$`)
	digits := regexp.MustCompile(`^[0-9.]*$`)
	return len(s) <= 253 && labels.MatchString(s) && !digits.MatchString(s)
}

func (s *Setting) parseExprs(value string) error {
	for _, text := range split(value) {
		if text == "" {
			return fmt.Errorf("autodetection method %q: an expression is empty, which would match every device: want %s= and expressions with a comma between", s.text, s.kind)
		}
		expr, err := regexp.Compile(text)
		if err != nil {
			return fmt.Errorf("autodetection method %q: %w", s.text, err)
		}
		s.exprs = append(s.exprs, expr)
	}
	return nil
}

func (s *Setting) parseNets(value string) error {
	for _, text := range split(value) {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Addr().Is4In6() {
			return fmt.Errorf("autodetection method %q: %q is no network: want networks such as 192.168.0.0/16 or fd00::/8", s.text, text)
		}
		if p.Addr().Is6() == s.family6 {
			s.nets = append(s.nets, p.Masked())
		}
	}
	if len(s.nets) == 0 {
		return fmt.Errorf("autodetection method %q: none of the networks is an %s one", s.text, s.family())
	}
	return nil
}

// split cuts a list at commas, and spaces around each entry.
func split(list string) []string {
	out := strings.Split(list, ",")
	for i := range out {
		out[i] = strings.TrimSpace(out[i])
	}
	return out
}
