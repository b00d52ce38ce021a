package uplink

import (
	"strings"
	"testing"
)

func TestParseSetting(t *testing.T) {
	for _, c := range []struct {
		ip, method string
		family6    bool
		kind       kind
	}{
		{"", "", false, byDefault},
		{"", "first-found", true, none},
		{"none", "nonsense", false, none},
		{"autodetect", "", true, byDefault},
		{"autodetect", "first-found", false, firstFound},
		{"autodetect", "kubernetes-internal-ip", true, internalIP},
		{"", "can-reach=192.0.2.1", false, canReach},
		{"", "can-reach=www.example.com", false, canReach},
		{"autodetect", "can-reach=2001:db8::1", true, canReach},
		{"", "interface=eth.*,bond[01]", false, interfaces},
		{"", "interface= ^eth0$ , ens3 ", false, interfaces},
		{"", "skip-interface=tailscale0", false, skipInterface},
		{"", "cidr=10.0.0.0/8,192.168.0.1/16", false, cidr},
		{"autodetect", "cidr=10.0.0.0/8,fd00::/8", true, cidr},
		{"10.0.0.5", "nonsense", false, explicit},
		{"10.0.0.5/24", "", false, explicit},
		{"fd00::5/64", "", true, explicit},
	} {
		s, err := ParseSetting(c.ip, c.method, c.family6)
		if err != nil || s.kind != c.kind || s.None() != (c.kind == none) {
			t.Errorf("ip %q method %q: %q, %v", c.ip, c.method, s.kind, err)
		}
	}
	s, _ := ParseSetting("", "interface= ^eth0$ , ens3 ", false)
	if len(s.exprs) != 2 || s.exprs[0].String() != "^eth0$" || s.exprs[1].String() != "ens3" {
		t.Errorf("expressions %v", s.exprs)
	}
	s, _ = ParseSetting("", "cidr=10.0.0.0/8,fd00::/8,192.168.0.1/16", false)
	if len(s.nets) != 2 || s.nets[1].String() != "192.168.0.0/16" {
		t.Errorf("networks %v", s.nets)
	}
}

// Each refusal names the value and what would be right.
func TestBadSettings(t *testing.T) {
	for _, c := range []struct {
		ip, method string
		family6    bool
		says       string
	}{
		{"10.0.0", "", false, "want an IPv4 address"},
		{"10.0.0.5/33", "", false, "want an IPv4 address"},
		{"10.0.0.5/", "", false, "want an IPv4 address"},
		{"fd00::5", "", false, "want an IPv4 address"},
		{"10.0.0.5", "", true, "want an IPv6 address"},
		{"::ffff:10.0.0.5", "", true, "want an IPv6 address"},
		{"fe80::1", "", true, "want an IPv6 address"},
		{"fe80::1%eth0", "", true, "want an IPv6 address"},
		{"127.0.0.1", "", false, "want an IPv4 address"},
		{"0.0.0.0", "", false, "want an IPv4 address"},
		{"224.0.0.1", "", false, "want an IPv4 address"},
		{"255.255.255.255", "", false, "want an IPv4 address"},
		{"Autodetect", "", false, "autodetect or none"},
		{"autodetect", "first_found", false, "first-found"},
		{"autodetect", "first-found=eth0", false, "want kubernetes-internal-ip"},
		{"autodetect", "kubernetes-internal-ip=10.0.0.5", false, "want kubernetes-internal-ip"},
		{"autodetect", "interface", false, "interface=REGEX"},
		{"autodetect", "interface=", false, "expression is empty"},
		{"autodetect", "interface=eth0,", false, "expression is empty"},
		{"autodetect", "skip-interface=,eth0", false, "expression is empty"},
		{"autodetect", "interface=*eth", false, "missing argument to repetition operator"},
		{"autodetect", "interface=eth(0", false, "missing closing )"},
		{"autodetect", "can-reach=", false, "one address"},
		{"autodetect", "can-reach=10.0.0.1/24", false, "without port or prefix length"},
		{"autodetect", "can-reach=10.0.0.1:80", false, "without port or prefix length"},
		{"autodetect", "can-reach=8.8.8", false, "want one address"},
		{"autodetect", "can-reach=a.example,b.example", false, "one name"},
		{"autodetect", "can-reach=2001:db8::1", false, "IPv4 address or a name"},
		{"autodetect", "can-reach=192.0.2.1", true, "IPv6 address or a name"},
		{"autodetect", "can-reach=fe80::1%eth0", true, "IPv6 address or a name"},
		{"autodetect", "cidr=", false, "is no network"},
		{"autodetect", "cidr=10.0.0.5", false, "is no network"},
		{"autodetect", "cidr=10.0.0.0/8;192.168.0.0/16", false, "is no network"},
		{"autodetect", "cidr=fd00::/8", false, "none of the networks is an IPv4 one"},
		{"autodetect", "cidr=10.0.0.0/8", true, "none of the networks is an IPv6 one"},
		{"autodetect", "address", false, "want kubernetes-internal-ip"},
		{"autodetect", "none", false, "want kubernetes-internal-ip"},
		{"autodetect", "?", false, "want kubernetes-internal-ip"},
	} {
		value := c.method
		if c.ip != "autodetect" {
			value = c.ip
		}
		_, err := ParseSetting(c.ip, c.method, c.family6)
		if err == nil || !strings.Contains(err.Error(), `"`+value+`"`) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("ip %q method %q: %v; should name the value and say %q", c.ip, c.method, err, c.says)
		}
	}
}
