package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
)

// Monitor hears all that is written to a node's routes, neighbours, forwarding entries and VXLAN devices.
type Monitor struct {
	stop func()

	mu      sync.Mutex
	names   map[int]string
	have    map[any]any    // what is there, by key
	deleted map[any]any    // the last value of what is not
	events  int            // that concern our objects
	wrong   []string       // right objects written again, or deleted and put back as they were
	first   map[any]bool   // keys of what was there at the beginning
	again   int            // routes of pods made since that were written twice
	gone    map[any]string // cluster objects that were deleted and are not back
}

type routeKey struct {
	dst    netip.Prefix
	metric uint32
}

type neighKey struct {
	index int
	ip    netip.Addr
	mac   netlink.MAC // of forwarding entries
	fdb   bool
}

// Monitor begins to listen. What is there now counts as right.
func (n *Node) Monitor() *Monitor {
	n.lab.t.Helper()
	c, err := n.NS.Conn()
	if err != nil {
		n.lab.t.Fatal(err)
	}
	sub, err := c.Subscribe(netlink.GroupLink, netlink.GroupNeigh, netlink.GroupRoute4, netlink.GroupRoute6)
	if err != nil {
		n.lab.t.Fatal(err)
	}
	m := &Monitor{names: n.NS.names(), have: map[any]any{}, deleted: map[any]any{}, gone: map[any]string{}, first: map[any]bool{}}
	if err := m.seed(c); err != nil {
		n.lab.t.Fatal(err)
	}
	for k := range m.have {
		m.first[k] = true
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = sub.Run(ctx, m.event, func() { n.lab.t.Error("monitor lost events") })
	}()
	m.stop = sync.OnceFunc(func() { cancel(); <-done; c.Close() })
	n.lab.t.Cleanup(m.stop)
	return m
}

func (m *Monitor) seed(c *netlink.Conn) error {
	for _, family := range netlink.Families {
		for _, proto := range protocols {
			routes, err := c.Routes(family, proto)
			if err != nil {
				return err
			}
			for _, r := range routes {
				if k, ok := m.routeKey(r); ok {
					m.have[k] = r
				}
			}
		}
	}
	for index, name := range m.names {
		if !strings.HasPrefix(name, "vxlan") {
			continue
		}
		for _, family := range netlink.Families {
			list, err := c.Neighs(family, index)
			if err != nil {
				return err
			}
			m.seedNeighs(list)
		}
		list, err := c.FDB(index)
		if err != nil {
			return err
		}
		m.seedNeighs(list)
	}
	return nil
}

func (m *Monitor) seedNeighs(list []netlink.Neigh) {
	for _, x := range list {
		if k, ok := m.neighKey(x); ok {
			m.have[k] = x
		}
	}
}

// routeKey is the key of a route that is ours.
func (m *Monitor) routeKey(r netlink.Route) (routeKey, bool) {
	pod := r.Proto == model.ProtoBoot && r.Dst.IsSingleIP() && strings.HasPrefix(m.names[r.OIF], "cali")
	return routeKey{r.Dst, r.Metric}, pod || between(r)
}

// between says whether it is a route between nodes.
func between(r netlink.Route) bool { return r.Proto == model.ProtoMargay || r.Proto == model.ProtoBIRD }

// neighKey is the key of an entry of a VXLAN device, and whether it is a permanent one, as ours are.
func (m *Monitor) neighKey(x netlink.Neigh) (neighKey, bool) {
	k := neighKey{index: x.Index, ip: x.IP, fdb: x.FDB}
	if x.FDB {
		k.mac = x.MAC
	}
	return k, strings.HasPrefix(m.names[x.Index], "vxlan") && x.State&unix.NUD_PERMANENT != 0
}

func (m *Monitor) event(e netlink.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch e.Type {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if r, ok := e.Route(); ok {
			if k, ours := m.routeKey(r); ours {
				m.change(k, r, e.Deleted(), between(r), routeLine(r, m.names))
			}
		}
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		if x, ok := e.Neigh(); ok {
			k, ours := m.neighKey(x)
			_, had := m.have[k]
			if ours || had { // one that is deleted is made a failed one first
				m.change(k, x, e.Deleted() || !ours, true, neighLine(x, m.names[x.Index]))
			}
		}
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		l, ok := e.Link()
		if !ok {
			return
		}
		if e.Deleted() {
			delete(m.names, l.Index)
		} else {
			m.names[l.Index] = l.Name
		}
		if strings.HasPrefix(l.Name, "vxlan") {
			m.events++
			m.wrong = append(m.wrong, fmt.Sprintf("device %s: event %d", l.Name, e.Type))
		}
	}
}

func (m *Monitor) change(k, v any, deleted, cluster bool, line string) {
	m.events++
	if deleted {
		if was, ok := m.have[k]; ok {
			m.deleted[k] = was
		}
		delete(m.have, k)
		if cluster {
			m.gone[k] = line
		}
		return
	}
	switch {
	case m.have[k] != v:
	case !cluster && !m.first[k]:
		m.again++
	default:
		m.wrong = append(m.wrong, "written again: "+line)
	}
	if _, there := m.have[k]; !there && m.deleted[k] == v {
		m.wrong = append(m.wrong, "deleted and put back: "+line)
	}
	m.have[k] = v
	delete(m.gone, k)
}

// Stop ends the listening. events is how many concerned our objects; wrong are those that touched what was right, with
// the routes, neighbours and forwarding entries to other nodes that are gone. again is how many routes of pods that were
// made meanwhile were written twice: the kernel's late word that a new interface was down makes the agent doubt them.
func (m *Monitor) Stop() (events, again int, wrong []string) {
	m.stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, line := range m.gone {
		m.wrong = append(m.wrong, "gone: "+line)
	}
	return m.events, m.again, m.wrong
}
