// Command margay is the CNI plugin. The container runtime executes it for each pod; see package plugin.
package main

import (
	"github.com/containernetworking/cni/pkg/skel"

	"github.com/margay-net/margay/pkg/cni/plugin"
)

// version is set by the linker: -X main.version=v1.2.3.
var version = "unknown"

func main() {
	skel.PluginMainFuncs(plugin.Funcs(), plugin.Versions(), "CNI plugin margay "+version)
}
