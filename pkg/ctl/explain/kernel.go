package explain

import (
	"fmt"
	"net"

	"github.com/vishvananda/netns"

	"github.com/margay-net/margay/pkg/ctl/node"
)

// kernelOf looks at this node's kernel.
func kernelOf(dev string) (k kernel, err error) {
	link, err := net.InterfaceByName(dev)
	if err != nil {
		return k, nil //nolint:nilerr // it is another node's
	}
	k.here, k.up = true, link.Flags&net.FlagUp != 0
	routes, err := node.KernelRoutes(netns.None())
	if err != nil {
		return k, fmt.Errorf("read routes: %w", err)
	}
	for _, r := range routes {
		if r.Dev == dev {
			k.routes = append(k.routes, r.Dst)
		}
	}
	return k, nil
}
