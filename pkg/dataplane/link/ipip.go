package link

import (
	"errors"
	"fmt"
	"time"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
)

// tunl0 is the kernel's own IPIP device. It is there in each namespace as soon as the kernel knows IPIP, receives what no
// other IPIP device does, and can't be removed.
const tunl0 = "tunl0"

// mark0 is the alias by which a restarted agent knows that it has set up tunl0, which others use, too (virtual servers have
// their address there).
const mark0 = "margay"

// SetIPIP says how tunl0 should be; nil: as the kernel made it, down and without address, two seconds later, unless
// somebody else uses it. Nothing is done before the first call. The latest call counts.
func (l *Links) SetIPIP(v *model.IPIP) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ipipKnown = true
	if l.ipip = v; v != nil {
		delete(l.unwanted, tunl0)
	} else {
		l.lingers(tunl0)
	}
	l.mark(tunl0)
}

// mendIPIP makes tunl0 as wanted.
func (l *Links) mendIPIP() error {
	l.mu.Lock()
	v, known, lingers := l.ipip, l.ipipKnown, time.Since(l.unwanted[tunl0]) < linger
	l.mu.Unlock()
	switch {
	case v != nil:
		return l.setupIPIP(*v)
	case known && !lingers:
		return l.releaseIPIP()
	}
	return nil
}

func (l *Links) setupIPIP(v model.IPIP) error {
	have, err := l.conn.Link(tunl0)
	if errors.Is(err, netlink.ErrNoDevice) {
		have, err = l.makeIPIP()
	}
	switch {
	case err != nil:
		return err
	case have.Kind != "ipip":
		return fmt.Errorf("set device %s: it is of kind %q, not ipip: rename or remove it", tunl0, have.Kind)
	}
	want := have
	want.Up, want.Alias = true, mark0
	if v.MTU != 0 {
		want.MTU = v.MTU
	}
	if have != want {
		if err := l.conn.SetIPIP(want); err != nil {
			return err
		}
		l.log.Info("device set up", "dev", tunl0)
	}
	l.mu.Lock()
	l.index[tunl0] = have.Index
	l.mu.Unlock()
	return errors.Join(l.mendAddr(have.Index, v.Addr), l.mendFilter(tunl0))
}

// makeIPIP has the kernel make tunl0.
func (l *Links) makeIPIP() (netlink.Link, error) {
	if err := l.conn.AddIPIP(tunl0); err != nil {
		if errors.Is(err, netlink.ErrNoIPIP) {
			err = fmt.Errorf("%w: load its module on the host (modprobe ipip), or set ipipMode Never in the IP pools, with or without a vxlanMode", err)
		}
		return netlink.Link{}, err
	}
	have, err := l.conn.Link(tunl0)
	if errors.Is(err, netlink.ErrNoDevice) {
		err = fmt.Errorf("%w: the kernel's IPIP device has another name here: rename it to %s", err, tunl0)
	}
	return have, err
}

// releaseIPIP leaves tunl0 as the kernel made it, if we have set it up.
func (l *Links) releaseIPIP() error {
	l.mu.Lock()
	delete(l.index, tunl0)
	l.mu.Unlock()
	if index, _ := l.conn.Index(tunl0); index == 0 {
		return nil
	}
	have, err := l.conn.Link(tunl0)
	if errors.Is(err, netlink.ErrNoDevice) {
		return nil
	}
	if err != nil || have.Kind != "ipip" || have.Alias != mark0 {
		return err
	}
	addrs, err := l.conn.Addrs(have.Index)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if a.Global {
			err = errors.Join(err, l.conn.DeleteAddr(a))
		}
	}
	if err != nil {
		return err
	}
	l.log.Info("device released", "dev", tunl0)
	return l.conn.SetIPIP(netlink.Link{Index: have.Index, Name: tunl0})
}
