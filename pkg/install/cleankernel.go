package install

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
)

// hostMAC is the address of each pod's host side.
var hostMAC = netlink.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}

// calico says whether a configuration of Calico is in use here.
func (c *Cleaner) calico() bool {
	names, err := confFiles(c.NetDir)
	if err != nil {
		return false
	}
	for _, name := range names {
		if typ, _ := firstPlugin(filepath.Join(c.NetDir, name)); typ == "calico" {
			return true
		}
	}
	return false
}

// kernel removes the VXLAN devices, with their addresses, neighbours and forwarding entries, and the routes of our
// protocol: to other nodes' blocks, and blackholes. Pods' routes go with their devices. Calico, if it is in use, has the
// same names and protocol: then all of it is left, since it takes it over or removes it.
func (c *Cleaner) kernel(calico bool) error {
	var errs []error
	var routes []netlink.Route
	for _, family := range netlink.Families {
		some, err := c.Conn.Routes(family, model.ProtoMargay)
		routes, errs = append(routes, some...), append(errs, err)
	}
	var devs []netlink.Link
	for _, name := range []string{"vxlan.calico", "vxlan-v6.calico"} {
		dev, err := c.Conn.Link(name)
		if errors.Is(err, netlink.ErrNoDevice) || err == nil && dev.Kind != "vxlan" {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		devs = append(devs, dev)
	}
	if calico && len(routes)+len(devs) > 0 {
		c.say(fmt.Sprintf("left %d routes and %d tunnel devices: Calico's CNI configuration is there, and Calico uses the same", len(routes), len(devs)))
	}
	if calico {
		return errors.Join(errs...)
	}
	gone := 0
	for _, r := range routes {
		if err := c.Conn.DeleteRoute(r); err != nil {
			errs = append(errs, err)
			continue
		}
		gone++
	}
	if gone > 0 {
		c.say(fmt.Sprintf("removed %d routes of protocol %d", gone, model.ProtoMargay))
	}
	for _, dev := range devs {
		if err := c.Conn.DeleteLink(dev.Index); err != nil {
			errs = append(errs, err)
			continue
		}
		c.say("removed device " + dev.Name)
	}
	return errors.Join(append(errs, c.bgp())...)
}

// bgp takes our settings from the kernel's own tunl0, with which the routes by it go, and tells of other routes that BGP may have
// made: which of them were ours only a running agent knows.
func (c *Cleaner) bgp() error {
	var errs []error
	if dev, err := c.Conn.Link("tunl0"); err == nil && dev.Kind == "ipip" && dev.Alias == "margay" {
		addrs, err := c.Conn.Addrs(dev.Index)
		errs = append(errs, err)
		for _, a := range addrs {
			if a.Global {
				errs = append(errs, c.Conn.DeleteAddr(a))
			}
		}
		errs = append(errs, c.Conn.SetIPIP(netlink.Link{Index: dev.Index, Name: dev.Name}))
		c.say("released device tunl0")
	}
	left := 0
	for _, family := range netlink.Families {
		routes, err := c.Conn.Routes(family, model.ProtoBIRD)
		left, errs = left+len(routes), append(errs, err)
	}
	if left > 0 {
		c.say(fmt.Sprintf("left %d routes of protocol %d (bird), which another program may have made; to remove them: ip route flush proto bird; ip -6 route flush proto bird", left, model.ProtoBIRD))
	}
	return errors.Join(errs...)
}

// pods returns how many pods' devices the rest has to wait for. With Force it removes them. Calico's, if it is in use, look
// the same: these are never removed, and with Force not waited for.
func (c *Cleaner) pods(calico bool) (left int, err error) {
	devs, err := c.hostSides()
	if err != nil || len(devs) == 0 {
		return 0, err
	}
	if !c.Force {
		if c.told != len(devs) {
			c.say(fmt.Sprintf("left the interfaces of %d pods that live, and with them the plugins, the journal and the network managers' files; "+
				"restart the pods with another network and clean up again, or use --force", len(devs)))
		}
		c.told = len(devs)
		return len(devs), nil
	}
	if calico {
		c.say(fmt.Sprintf("left the interfaces of %d pods: they may be Calico's", len(devs)))
		return 0, nil
	}
	var errs []error
	for _, dev := range devs {
		if err := c.Conn.DeleteLink(dev.Index); err != nil {
			left++
			errs = append(errs, err)
		}
	}
	c.say(fmt.Sprintf("removed the interfaces of %d pods, which have no network now", len(devs)-left))
	return left, errors.Join(errs...)
}

// hostSides lists the host sides of pods.
func (c *Cleaner) hostSides() (devs []netlink.Link, err error) {
	var all []net.Interface
	if err := c.Conn.Do(func() (err error) { all, err = net.Interfaces(); return err }); err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	for _, i := range all {
		if !strings.HasPrefix(i.Name, "cali") {
			continue
		}
		dev, err := c.Conn.Link(i.Name)
		if errors.Is(err, netlink.ErrNoDevice) || err == nil && (dev.Kind != "veth" || dev.MAC != hostMAC) {
			continue
		}
		if err != nil {
			return nil, err
		}
		devs = append(devs, dev)
	}
	return devs, nil
}
