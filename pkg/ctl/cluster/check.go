package cluster

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/margay-net/margay/pkg/ctl/address"
	"github.com/margay-net/margay/pkg/ctl/connect"
	addresses "github.com/margay-net/margay/pkg/ipam/check"
)

// finding is the answer to one question.
type finding struct {
	what  string
	wrong []string // what is wrong and what to do, a line each; nil: nothing
	note  string   // what was looked at
}

// agentLabel is what our agents' pods carry.
const agentLabel = "margay-node"

// check prints what is wrong with the cluster's network, and counts it.
func check(ctx context.Context, c *connect.Cluster, out io.Writer, version string, again time.Duration) (int, error) {
	s, r, err := address.Compare(ctx, c, again)
	if err != nil {
		return 0, err
	}
	problems := 0
	for _, f := range []finding{
		group(c), information(s, version), nodes(s), agents(s), duplicates(s), pools(s), full(s), allocations(r),
	} {
		mark := "OK"
		if len(f.wrong) > 0 {
			mark = "PROBLEM"
		}
		if _, err := fmt.Fprintf(out, "%-8s %s: %s\n", mark, f.what, f.note); err != nil {
			return problems, err
		}
		for _, w := range f.wrong {
			problems++
			if _, err := fmt.Fprintf(out, "         - %s\n", w); err != nil {
				return problems, err
			}
		}
	}
	_, err = fmt.Fprintf(out, "Check complete; found %d problems.\n", problems)
	return problems, err
}

func group(c *connect.Cluster) finding {
	return finding{what: "resources", note: "in group " + c.Kube.Group()}
}

func information(s *address.Snapshot, version string) finding {
	f := finding{what: "datastore", note: "version " + s.Info.Spec.CalicoVersion + ", this program " + version}
	if s.Locked() {
		f.wrong = append(f.wrong, "it is locked, no pod can be added: when nobody migrates it, margayctl datastore migrate unlock")
	}
	if s.Info.Name == "" {
		f.note = "not described yet"
		f.wrong = append(f.wrong, "ClusterInformation default is missing: the first agent that starts makes it: is there one?")
	}
	return f
}

// nodes looks for nodes that no agent has described, or whose network is not available.
func nodes(s *address.Snapshot) finding {
	f := finding{what: "nodes", note: fmt.Sprintf("%d", len(s.NodeList))}
	for i := range s.NodeList {
		n := &s.NodeList[i]
		if n.Annotations["projectcalico.org/IPv4Address"] == "" && n.Annotations["projectcalico.org/IPv6Address"] == "" {
			f.wrong = append(f.wrong, "node "+n.Name+" has no address of ours: look at its agent's log: kubectl -n kube-system logs -l k8s-app=margay-node")
		}
		for _, c := range n.Status.Conditions {
			bad := c.Type == corev1.NodeNetworkUnavailable || c.Type == "DuplicateNodeAddress"
			if bad && c.Status == corev1.ConditionTrue {
				f.wrong = append(f.wrong, fmt.Sprintf("node %s: %s: %s %s", n.Name, c.Type, c.Reason, c.Message))
			}
		}
	}
	return f
}

// agents looks for nodes without an agent that is ready. Where no agent is a pod, it cannot tell.
func agents(s *address.Snapshot) finding {
	ready, there := map[string]bool{}, 0
	for i := range s.PodList {
		p := &s.PodList[i]
		if p.Labels["k8s-app"] != agentLabel {
			continue
		}
		there++
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				ready[p.Spec.NodeName] = true
			}
		}
	}
	if there == 0 {
		return finding{what: "agents", note: "not run as pods: ask on each node: margayctl node status"}
	}
	f := finding{what: "agents", note: fmt.Sprintf("%d ready", len(ready))}
	for _, name := range s.Nodes {
		if !ready[name] {
			f.wrong = append(f.wrong, "node "+name+" has no agent that is ready: kubectl -n kube-system get pods -l k8s-app="+agentLabel+" -o wide")
		}
	}
	return f
}

// duplicates looks for addresses that two nodes claim.
func duplicates(s *address.Snapshot) finding {
	f := finding{what: "nodes' addresses", note: "each one node's"}
	owner := map[string]string{}
	for i := range s.NodeList {
		n := &s.NodeList[i]
		for _, key := range []string{
			"projectcalico.org/IPv4Address", "projectcalico.org/IPv6Address", "projectcalico.org/IPv4VXLANTunnelAddr", "projectcalico.org/IPv6VXLANTunnelAddr",
		} {
			a, _, _ := strings.Cut(n.Annotations[key], "/")
			switch {
			case a == "":
			case owner[a] != "":
				f.note = "not all"
				f.wrong = append(f.wrong, fmt.Sprintf("%s is claimed by nodes %s and %s: set IP or IP_AUTODETECTION_METHOD of the agents", a, owner[a], n.Name))
			default:
				owner[a] = n.Name
			}
		}
	}
	return f
}

// pools looks for pools that overlap others, or nodes and Services.
func pools(s *address.Snapshot) finding {
	f := finding{what: "pools", note: fmt.Sprintf("%d, %d of them enabled", len(s.Pools), len(s.Active))}
	if len(s.Active) == 0 {
		f.wrong = append(f.wrong, "no pool is enabled: pods get no addresses: make an IPPool, or set spec.disabled of one to false")
	}
	for i := range s.Pools {
		p, err := netip.ParsePrefix(s.Pools[i].Spec.CIDR)
		if err != nil {
			continue
		}
		for _, o := range s.Pools[:i] {
			if q, err := netip.ParsePrefix(o.Spec.CIDR); err == nil && q.Overlaps(p) {
				f.wrong = append(f.wrong, fmt.Sprintf("pools %s (%s) and %s (%s) overlap: the younger gives out no addresses: delete one", o.Name, q, s.Pools[i].Name, p))
			}
		}
		for j := range s.NodeList {
			if a, err := netip.ParsePrefix(s.NodeList[j].Annotations["projectcalico.org/IPv4Address"]); err == nil && p.Contains(a.Addr()) {
				f.wrong = append(f.wrong, fmt.Sprintf("pool %s (%s) contains node %s's address %s: make a pool apart from the nodes", s.Pools[i].Name, p, s.NodeList[j].Name, a.Addr()))
			}
		}
		for j := range s.ServiceList {
			svc := &s.ServiceList[j]
			inside := func(text string) bool { a, err := netip.ParseAddr(text); return err == nil && p.Contains(a) }
			if slices.ContainsFunc(svc.Spec.ClusterIPs, inside) {
				f.wrong = append(f.wrong, fmt.Sprintf("pool %s (%s) contains the cluster address of Service %s/%s: make a pool apart from the Services", s.Pools[i].Name, p, svc.Namespace, svc.Name))
				break
			}
		}
	}
	return f
}

// nearlyFull is the share of a pool's addresses from which on it is a problem.
const nearlyFull = 0.9

func full(s *address.Snapshot) finding {
	f := finding{what: "room", note: "in all enabled pools"}
	for _, u := range s.Count() {
		if u.Pool == nil || u.Pool.Spec.Disabled || u.Total == 0 || u.Free/u.Total > 1-nearlyFull {
			continue
		}
		f.note = "not everywhere"
		f.wrong = append(f.wrong, fmt.Sprintf("pool %s (%s) has %.5g of %.5g addresses free: make another pool", u.Pool.Name, u.CIDR, u.Free, u.Total))
	}
	return f
}

func allocations(r *addresses.Result) finding {
	f := finding{what: "addresses", note: fmt.Sprintf("%d allocated in %d blocks", len(r.Allocations), len(r.Blocks))}
	if n := len(r.Problems); n > 0 {
		f.wrong = append(f.wrong, fmt.Sprintf("%d allocations, handles or blocks are wrong: margayctl ipam check --show-problem-ips", n))
	}
	return f
}
