package netlink

import (
	"fmt"
	"net/netip"
	"unsafe"

	vishnl "github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// MAC is an Ethernet address.
type MAC = [6]byte

// Neigh is one neighbour entry (FDB false) or one forwarding entry of a VXLAN device (FDB true; IP is then the other
// node's address, not valid for an entry without one).
type Neigh struct {
	Index int
	FDB   bool
	IP    netip.Addr
	MAC   MAC
	State uint16 // unix.NUD_*
	Flags uint8  // unix.NTF_*
}

// Neighs lists the neighbour entries of one device in one family.
func (c *Conn) Neighs(family uint8, index int) ([]Neigh, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, 0)
	req.AddData(&vishnl.Ndmsg{Family: family})
	req.AddData(nl.NewRtAttr(vishnl.NDA_IFINDEX, nl.Uint32Attr(uint32(index))))
	neighs, err := c.listNeighs(req, index)
	if err != nil {
		return nil, fmt.Errorf("list neighbours of device %d: %w", index, err)
	}
	return neighs, nil
}

// FDB lists the forwarding entries of one VXLAN device.
func (c *Conn) FDB(index int) ([]Neigh, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, 0)
	req.AddData(&vishnl.Ndmsg{Family: unix.AF_BRIDGE, Index: uint32(index)})
	neighs, err := c.listNeighs(req, index)
	if err != nil {
		return nil, fmt.Errorf("list forwarding entries of device %d: %w", index, err)
	}
	return neighs, nil
}

func (c *Conn) listNeighs(req *nl.NetlinkRequest, index int) ([]Neigh, error) {
	var neighs []Neigh
	err := c.dump.list(req, func() { neighs = neighs[:0] }, func(data []byte) {
		if n, ok := parseNeigh(data); ok && n.Index == index {
			neighs = append(neighs, n)
		}
	})
	return neighs, err
}

// PutNeigh writes a permanent entry, in place of one for the same address (FDB: for the same MAC).
func (c *Conn) PutNeigh(n Neigh) error {
	n.State = unix.NUD_PERMANENT
	if n.FDB {
		n.State |= unix.NUD_NOARP
	}
	if err := c.talk.do(neighRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, n)); err != nil {
		return fmt.Errorf("put %s: %w", n, err)
	}
	return nil
}

// DeleteNeigh removes an entry; that there is none is no error.
func (c *Conn) DeleteNeigh(n Neigh) error {
	if err := c.talk.do(neighRequest(unix.RTM_DELNEIGH, 0, n)); err != nil && !isGone(err) {
		return fmt.Errorf("delete %s: %w", n, err)
	}
	return nil
}

func (n Neigh) String() string {
	if n.FDB {
		return fmt.Sprintf("forwarding entry %x via %s of device %d", n.MAC, n.IP, n.Index)
	}
	return fmt.Sprintf("neighbour %s at %x of device %d", n.IP, n.MAC, n.Index)
}

func neighRequest(typ, flags int, n Neigh) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(typ, flags)
	msg := &vishnl.Ndmsg{Family: familyOf(n.IP), Index: uint32(n.Index), State: n.State}
	if n.FDB {
		msg.Family, msg.Flags = unix.AF_BRIDGE, unix.NTF_SELF
	}
	req.AddData(msg)
	if n.IP.IsValid() {
		req.AddData(nl.NewRtAttr(vishnl.NDA_DST, n.IP.AsSlice()))
	}
	if n.FDB || typ == unix.RTM_NEWNEIGH {
		req.AddData(nl.NewRtAttr(vishnl.NDA_LLADDR, n.MAC[:]))
	}
	return req
}

// sizeofNdMsg is the size of struct ndmsg.
const sizeofNdMsg = 12

// parseNeigh reads an RTM_NEWNEIGH or RTM_DELNEIGH message; not ok for proxy entries and other families.
func parseNeigh(data []byte) (n Neigh, ok bool) {
	if len(data) < sizeofNdMsg {
		return n, false
	}
	msg := (*vishnl.Ndmsg)(unsafe.Pointer(&data[0]))
	n = Neigh{Index: int(msg.Index), FDB: msg.Family == unix.AF_BRIDGE, State: msg.State, Flags: msg.Flags}
	if n.Flags&unix.NTF_PROXY != 0 || (!n.FDB && msg.Family != unix.AF_INET && msg.Family != unix.AF_INET6) {
		return n, false
	}
	for typ, val := range attrs(data[sizeofNdMsg:]) {
		switch typ {
		case vishnl.NDA_DST:
			n.IP = addr(val)
		case vishnl.NDA_LLADDR:
			copy(n.MAC[:], val)
		}
	}
	return n, n.FDB || n.IP.IsValid()
}
