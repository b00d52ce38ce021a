package peering

import (
	"cmp"
	"slices"

	v3 "github.com/margay-net/margay/pkg/api/v3"
)

// defaultName and nodePrefix make the names of BGPConfigurations that count.
const (
	defaultName = "default"
	nodePrefix  = "node."
)

// Defaults of BGPConfiguration (Calico's).
const (
	DefaultAS       = 64512
	DefaultPort     = 179
	DefaultPriority = 1024 // metric of routes to pods
)

// Config is the BGPConfiguration that counts for a node: default, over it what node.NAME sets, and the rest as it is
// when nothing is set. The mesh's password and restart time, and all that is about Services, are those of default
// alone; so that both ends agree, a node that is out of the mesh by node.NAME is out of it for the others, too. The result
// shares memory with the directory and must not be changed.
func (d *Directory) Config(self string) v3.BGPConfigurationSpec {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config(self)
}

func (d *Directory) config(self string) v3.BGPConfigurationSpec {
	var out v3.BGPConfigurationSpec
	if c := d.configs[defaultName]; c != nil {
		out = *c
	}
	if own := d.configs[nodePrefix+self]; own != nil {
		overlay(&out, own)
	}
	out.LogSeverityScreen = cmp.Or(out.LogSeverityScreen, "Info")
	out.ListenPort = cmp.Or(out.ListenPort, DefaultPort)
	def(&out.NodeToNodeMeshEnabled, true)
	def(&out.ASNumber, DefaultAS)
	def(&out.ServiceLoadBalancerAggregation, v3.Enabled)
	def(&out.BindMode, v3.BindNone)
	def(&out.ProgramClusterRoutes, v3.ClusterRoutesEnabled)
	def(&out.IPv4NormalRoutePriority, DefaultPriority)
	def(&out.IPv6NormalRoutePriority, DefaultPriority)
	return out
}

// overlay puts what a node's configuration sets over that of all.
func overlay(out, own *v3.BGPConfigurationSpec) {
	out.LogSeverityScreen = cmp.Or(own.LogSeverityScreen, out.LogSeverityScreen)
	out.ListenPort = cmp.Or(own.ListenPort, out.ListenPort)
	out.LocalWorkloadPeeringIPV4 = cmp.Or(own.LocalWorkloadPeeringIPV4, out.LocalWorkloadPeeringIPV4)
	out.LocalWorkloadPeeringIPV6 = cmp.Or(own.LocalWorkloadPeeringIPV6, out.LocalWorkloadPeeringIPV6)
	out.NodeToNodeMeshEnabled = cmp.Or(own.NodeToNodeMeshEnabled, out.NodeToNodeMeshEnabled)
	out.ASNumber = cmp.Or(own.ASNumber, out.ASNumber)
	out.BindMode = cmp.Or(own.BindMode, out.BindMode)
	out.ProgramClusterRoutes = cmp.Or(own.ProgramClusterRoutes, out.ProgramClusterRoutes)
	out.IPv4NormalRoutePriority = cmp.Or(own.IPv4NormalRoutePriority, out.IPv4NormalRoutePriority)
	out.IPv6NormalRoutePriority = cmp.Or(own.IPv6NormalRoutePriority, out.IPv6NormalRoutePriority)
	over(&out.PrefixAdvertisements, own.PrefixAdvertisements)
	over(&out.IgnoredInterfaces, own.IgnoredInterfaces)
	out.Communities = slices.Concat(own.Communities, out.Communities) // the first of a name counts
}

func def[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

func over[T any](field *[]T, value []T) {
	if len(value) > 0 {
		*field = value
	}
}

// ClusterRoutes says whether the routes to other nodes' blocks come from the API although the node speaks BGP:
// programClusterRoutes is Disabled. EnabledIPIPOnly and EnabledNoEncapOnly count as Enabled.
func (d *Directory) ClusterRoutes(self string) bool {
	return *d.Config(self).ProgramClusterRoutes == v3.ClusterRoutesDisabled
}

// as is a node's AS: that of its annotation; else of the environment, which only the node itself knows; else its
// BGPConfiguration's.
func (d *Directory) as(node string, environment uint32) uint32 {
	if n := d.nodes[node]; n != nil && n.AS != 0 {
		return n.AS
	}
	if environment != 0 {
		return environment
	}
	return uint32(*d.config(node).ASNumber)
}
