package plugin

import (
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/pkg/model"
)

// result is what ADD prints: the host side, the pod's side, and the pod's addresses with their gateways and default
// routes, in the specification's newest form (package types converts it to the older ones).
func (s *sandbox) result(got *wire.Assigned, inner netlink.Link) *current.Result {
	r := &current.Result{
		Interfaces: []*current.Interface{
			{Name: got.HostVeth, Mac: model.EndpointMAC.String(), Mtu: got.MTU},
			{Name: s.ifName, Mac: inner.Attrs().HardwareAddr.String(), Mtu: got.MTU, Sandbox: s.netns},
		},
	}
	for _, addr := range got.Addrs {
		gw := gateway(addr).AsSlice()
		r.IPs = append(r.IPs, &current.IPConfig{Interface: current.Int(1), Address: *ipNet(hostPrefix(addr)), Gateway: gw})
		r.Routes = append(r.Routes, &types.Route{Dst: *ipNet(everywhere(addr)), GW: gw})
	}
	return r
}
