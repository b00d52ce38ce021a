package plugin

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"

	"github.com/margay-net/margay/pkg/cni/wire"
)

// Bounds of an interface's MTU, in bytes: RFC 791, RFC 8200 and linux/if_ether.h.
const (
	minMTU4 = 68
	minMTU6 = 1280
	maxMTU  = 65535
)

// maxIfName is the longest name of a device in linux/if.h, in bytes, without the final zero.
const maxIfName = 15

// add is the verb ADD. A previous plugin's result has no part in it, as with other plugins that make interfaces.
func add(args *skel.CmdArgs) error {
	s, err := newSandbox(args)
	if err != nil {
		return err
	}
	return cniError("add "+s.String(), s.add())
}

// add makes the interface and prints the result. After a failure nothing is left of what it has done.
func (s *sandbox) add() error {
	pod, err := s.openPod()
	if err != nil {
		return err
	}
	defer pod.close()
	host, err := openHost()
	if err != nil {
		return err
	}
	defer host.Close()
	agent, err := dial(s.conf.Socket, addPatience, true)
	if err != nil {
		return err
	}
	defer agent.close()

	got, err := s.assign(agent)
	if errors.As(err, new(*wire.Error)) {
		return err // refused: there is nothing to take back
	}
	var made netlink.Link
	if err == nil {
		made, err = s.build(agent, host, pod, got)
	}
	if err != nil {
		return also(cniError("", err), "roll back", s.rollBack(host, made))
	}
	return nil
}

// openPod opens the sandbox's namespace and refuses the plugin's own, in which both sides would be the node's, whatever
// CNI_NETNS_OVERRIDE allows.
func (s *sandbox) openPod() (*podNS, error) {
	pod, err := openPodNS(s.netns)
	if err != nil {
		return nil, err
	}
	own, err := pod.own()
	if err == nil && own {
		err = badNS(s.netns, errors.New("it is the plugin's own"))
	}
	if err != nil {
		pod.close()
		return nil, err
	}
	return pod, nil
}

// assign has the agent pick addresses. A *wire.Error means that it did not; after any other error it may have.
func (s *sandbox) assign(agent *agent) (*wire.Assigned, error) {
	resp, err := agent.ask(s.request(wire.OpAssign), wire.Timeout)
	if err != nil {
		return nil, err
	}
	if err := validAssigned(resp.Assigned); err != nil {
		return nil, &agentError{"use agent's answer to assign", err}
	}
	return resp.Assigned, nil
}

// validAssigned checks the agent's answer before it reaches the kernel.
func validAssigned(a *wire.Assigned) error {
	if a == nil || len(a.Addrs) == 0 {
		return errors.New("it has no address")
	}
	minMTU, families := minMTU4, map[int]bool{}
	for _, addr := range a.Addrs {
		if !addr.IsGlobalUnicast() || addr.Is4In6() || addr.Zone() != "" {
			return fmt.Errorf("address %s can't be a pod's", addr)
		}
		if families[addr.BitLen()] {
			return fmt.Errorf("address %s is the second of its family", addr)
		}
		families[addr.BitLen()] = true
		if addr.Is6() {
			minMTU = minMTU6
		}
	}
	if mac, err := net.ParseMAC(a.MAC); a.MAC != "" && (err != nil || len(mac) != 6 || mac[0]&1 != 0) {
		return fmt.Errorf("mac %q can't be a pod's", a.MAC)
	}
	if a.MTU < minMTU || a.MTU > maxMTU {
		return fmt.Errorf("mtu %d is not in %d..%d", a.MTU, minMTU, maxMTU)
	}
	if !strings.HasPrefix(a.HostVeth, hostPrefixName) || len(a.HostVeth) > maxIfName || strings.ContainsAny(a.HostVeth, "/: \t\n%") {
		return fmt.Errorf("%q can't be the name of a host interface", a.HostVeth)
	}
	return nil
}

// build makes the pair, sets up the pod's side, has the agent put the pod's routes and policy in place, and prints the
// result. It returns the host side as soon as there is one, also with an error.
func (s *sandbox) build(agent *agent, host *netlink.Handle, pod *podNS, got *wire.Assigned) (netlink.Link, error) {
	made, err := makeVeth(host, pod, s, got)
	if err != nil {
		return nil, err
	}
	inner, err := pod.setUp(s.ifName, got.Addrs)
	if err != nil {
		return made, err
	}
	if err := settle(host, made, pod, inner, got.Addrs); err != nil {
		return made, err
	}
	if _, err := agent.ask(s.request(wire.OpActivate), wire.Timeout); err != nil {
		return made, err
	}
	if err := types.PrintResult(s.result(got, inner), s.conf.CNIVersion); err != nil {
		return made, fmt.Errorf("print result: %w", err)
	}
	return made, nil
}

// rollBack takes back what add has done so far: the device first, so that the address is out of use when it is released.
func (s *sandbox) rollBack(host *netlink.Handle, made netlink.Link) error {
	var err error
	if made != nil {
		err = deleteLink(host, made)
	}
	_, released := s.release()
	return errors.Join(err, released)
}
