package pods

import (
	"fmt"
	"strings"
	"testing"
)

func annotated(kv ...string) (out map[string]string) {
	for i := 0; i < len(kv); i += 2 {
		if out == nil {
			out = map[string]string{}
		}
		out["cni.projectcalico.org/"+kv[i]] = kv[i+1]
	}
	return out
}

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name    string
		pod, ns []string // annotations: names and values
		want    string
	}{
		{"nothing", nil, nil, "[] [] [] [] false  [] []"},
		{"empty ones", []string{annPools4, "", annAddrs, "", annMAC, ""}, []string{annPools4, ""}, "[] [] [] [] false  [] []"},
		{"pools", []string{annPools4, `["a", "10.0.0.0/16"]`, annPools6, `["b"]`}, nil, "[a 10.0.0.0/16] [b] [] [] false  [] []"},
		{"the namespace's", nil, []string{annPools4, `["a"]`, annPools6, `["b"]`, annFamilies, `["IPv6"]`}, "[a] [b] [IPv6] [] false  [] []"},
		{"pod beats namespace", []string{annPools4, `["c"]`}, []string{annPools4, `["a"]`, annPools6, `["b"]`}, "[c] [b] [] [] false  [] []"},
		{"pod beats a bad namespace", []string{annPools4, `["c"]`}, []string{annPools4, `a`}, "[c] [] [] [] false  [] []"},
		{"an empty list asks for nothing", []string{annPools4, `[]`}, nil, "[] [] [] [] false  [] []"},
		{"families", []string{annFamilies, `["IPv6","IPv4"]`}, nil, "[] [] [IPv6 IPv4] [] false  [] []"},
		{"static", []string{annAddrs, `["fd00::5", "10.0.0.5"]`}, nil, "[] [] [] [10.0.0.5 fd00::5] false  [] []"},
		{"mapped", []string{annAddrs, `["::ffff:10.0.0.5"]`}, nil, "[] [] [] [10.0.0.5] false  [] []"},
		{"without IPAM", []string{annNoIPAM, `["10.0.0.5"]`}, nil, "[] [] [] [10.0.0.5] true  [] []"},
		{"a namespace has no addresses", nil, []string{annAddrs, `["10.0.0.5"]`, annMAC, "x"}, "[] [] [] [] false  [] []"},
		{"MAC", []string{annMAC, "1C:0C:0A:C0:FF:EE"}, nil, "[] [] [] [] false 1c:0c:0a:c0:ff:ee [] []"},
		{"MAC with dashes", []string{annMAC, "02-00-00-00-00-01"}, nil, "[] [] [] [] false 02:00:00:00:00:01 [] []"},
		{"floating", []string{annFloating, `["192.0.2.2","192.0.2.1","192.0.2.2","2001:db8::1"]`}, nil, "[] [] [] [] false  [192.0.2.1 192.0.2.2 2001:db8::1] []"},
		{"sources", []string{annSources, `["10.1.2.3/8","fd00::/8"]`}, nil, "[] [] [] [] false  [] [10.0.0.0/8 fd00::/8]"},
	} {
		w, err := Read(Pod{Namespace: "default", Name: "web", Annotations: annotated(c.pod...)}, Namespace{Name: "default", Annotations: annotated(c.ns...)})
		got := fmt.Sprint(w.Pools4.Items, w.Pools6.Items, w.Families.Items, w.Addrs, w.NoIPAM) + " " + w.MAC + " " + fmt.Sprint(w.Floating, w.Sources)
		if err != nil || got != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.name, got, err, c.want)
		}
	}
}

func TestReadErrors(t *testing.T) {
	const list = "it is no JSON list of strings: write it like "
	for _, c := range []struct {
		pod  []string
		says []string
	}{
		{[]string{annPools4, "a"}, []string{"annotation cni.projectcalico.org/ipv4pools of pod default/web, value a: " + list + `["pool-a"]`}},
		{[]string{annPools6, `{"a":1}`}, []string{"ipv6pools", list}},
		{[]string{annFamilies, `["IPv5"]`}, []string{"ipFamilies", `value ["IPv5"]`, `"IPv5" is no family`}},
		{[]string{annFamilies, `[]`}, []string{"ipFamilies", "it names no family"}},
		{[]string{annAddrs, `10.0.0.1`}, []string{"ipAddrs", list + `["10.0.0.1"]`}},
		{[]string{annAddrs, `[]`}, []string{"ipAddrs", "it names no address"}},
		{[]string{annAddrs, `["10.0.0.256"]`}, []string{`"10.0.0.256" is no IP address`}},
		{[]string{annAddrs, `["10.0.0.1/32"]`}, []string{"a prefix length does not belong"}},
		{[]string{annAddrs, `["127.0.0.1"]`}, []string{"127.0.0.1 cannot be a pod's address"}},
		{[]string{annAddrs, `["fe80::1"]`}, []string{"cannot be a pod's address"}},
		{[]string{annAddrs, `["10.0.0.1","10.0.0.2"]`}, []string{"10.0.0.2 is the second address of its family"}},
		{[]string{annAddrs, `["10.0.0.1"]`, annNoIPAM, `["10.0.0.2"]`}, []string{"ipAddrsNoIpam", "the pod has annotation cni.projectcalico.org/ipAddrs, too", "remove one"}},
		{[]string{annMAC, "02:00:00:00:00"}, []string{"hwAddr", "value 02:00:00:00:00:", "it is no Ethernet address"}},
		{[]string{annMAC, "02:00:5e:10:00:00:00:01"}, []string{"it is no Ethernet address"}},
		{[]string{annMAC, "01:00:5e:00:00:01"}, []string{"it is a group's address", "00:…"}},
		{[]string{annMAC, "ff:ff:ff:ff:ff:ff"}, []string{"it is a group's address", "fe:…"}},
		{[]string{annMAC, "00:00:00:00:00:00"}, []string{"no interface can have it"}},
		{[]string{annFloating, `"192.0.2.1"`}, []string{"floatingIPs", list}},
		{[]string{annFloating, `["x"]`}, []string{"floatingIPs", `"x" is no IP address`}},
		{[]string{annSources, `["10.0.0.1"]`}, []string{"allowedSourcePrefixes", `"10.0.0.1" is no CIDR`}},
		{[]string{annPools4, "a", annMAC, "b", annAddrs, `["c","d"]`}, []string{"ipv4pools", "hwAddr", `"c" is no`, `"d" is no`}}, // all at once
	} {
		_, err := Read(Pod{Namespace: "default", Name: "web", Annotations: annotated(c.pod...)}, Namespace{Name: "default"})
		for _, says := range c.says {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%v: error %v, want one that says %s", c.pod, err, says)
			}
		}
	}
	_, err := Read(Pod{Namespace: "default", Name: "web"}, Namespace{Name: "team", Annotations: annotated(annPools4, "a")})
	if err == nil || !strings.HasPrefix(err.Error(), "annotation cni.projectcalico.org/ipv4pools of namespace team, value a: ") {
		t.Errorf("a bad annotation of the namespace: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{"", "[]", `["IPv4"]`, `["10.0.0.1","fd00::1"]`, `["10.0.0.0/8"]`, "02:00:00:00:00:01", `[null]`, `{`, `["fe80::1%eth0"]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, name := range podAnnotations {
			w, err := Read(Pod{Namespace: "a", Name: "b", Annotations: annotated(name, s)}, Namespace{Name: "a"})
			if err != nil && !strings.Contains(err.Error(), name) {
				t.Fatalf("error does not name %s: %v", name, err)
			}
			for _, a := range append(w.Addrs, w.Floating...) {
				if !a.IsGlobalUnicast() || a.Is4In6() || a.Zone() != "" {
					t.Fatalf("%s: address %s", s, a)
				}
			}
		}
	})
}
