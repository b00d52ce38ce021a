package advertise

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// excluded is the label, with value true, of nodes that no Service is announced by.
const excluded = "node.kubernetes.io/exclude-from-external-load-balancers"

// Input is what Announcements looks at beside the directory.
type Input struct {
	NodeLabels map[string]string       // of this node
	Config     v3.BGPConfigurationSpec // of the BGPConfiguration default: as with Calico, node.NAME does not count here
	ClusterIPs string                  // CALICO_ADVERTISE_CLUSTER_IPS: networks, separated by commas; "": Config's
}

// ranges are the networks, by what of a Service they are for.
type ranges struct{ cluster, external, balancer []netip.Prefix }

func (in *Input) ranges() (r ranges, faults []string) {
	read := func(list []v3.ServiceIPBlock, field string) (out []netip.Prefix) {
		for i, b := range list {
			p, err := network(b.CIDR)
			if err != nil {
				faults = append(faults, fmt.Sprintf("BGPConfiguration default: spec.%s[%d].cidr: %s", field, i, err))
				continue
			}
			out = append(out, p)
		}
		return out
	}
	if in.ClusterIPs == "" {
		r.cluster = read(in.Config.ServiceClusterIPs, "serviceClusterIPs")
	} else {
		for _, text := range strings.Split(in.ClusterIPs, ",") {
			p, err := network(strings.TrimSpace(text))
			if err != nil {
				faults = append(faults, "CALICO_ADVERTISE_CLUSTER_IPS: "+err.Error())
				continue
			}
			r.cluster = append(r.cluster, p)
		}
	}
	r.external = read(in.Config.ServiceExternalIPs, "serviceExternalIPs")
	r.balancer = read(in.Config.ServiceLoadBalancerIPs, "serviceLoadBalancerIPs")
	return r, faults
}

func network(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is not used: want a network, such as 192.168.50.0/24, or an address, such as 192.168.50.7/32 or fd00::7/128", text)
	}
	return p.Masked(), nil
}

// Ranges returns all networks that may be announced of, sorted, each once; those that do not parse are left out. What is
// learned within them is for others: it is passed on by a route reflector, and has no place in this node's kernel, where
// kube-proxy sees to these addresses.
func (in Input) Ranges() []netip.Prefix {
	r, _ := in.ranges()
	return sorted(slices.Concat(r.cluster, r.external, r.balancer))
}

// Any says whether this node may have anything to announce, and so must know of Services: see Directory.SetRanges.
func (in Input) Any() bool { return in.NodeLabels[excluded] != "true" && len(in.Ranges()) > 0 }

func sorted(list []netip.Prefix) []netip.Prefix {
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list)
}
