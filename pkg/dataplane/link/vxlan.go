package link

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink"
)

// mendVXLAN makes the device as wanted.
func (l *Links) mendVXLAN(v model.VXLAN) error {
	want := netlink.Link{Name: v.Name, MTU: v.MTU, MAC: netlink.MAC(v.MAC), Up: true, Kind: "vxlan"}
	want.VXLAN = netlink.VXLAN{VNI: uint32(v.VNI), Port: uint16(v.Port), Local: v.Local}
	if v.Parent != "" {
		if want.VXLAN.Parent, _ = l.conn.Index(v.Parent); want.VXLAN.Parent == 0 {
			return fmt.Errorf("put device %s: underlay's device %s: %w", v.Name, v.Parent, netlink.ErrNoDevice)
		}
	}
	have, err := l.conn.Link(v.Name)
	switch {
	case errors.Is(err, netlink.ErrNoDevice):
		have, err = l.makeVXLAN(want)
	case err == nil:
		have, err = l.correctVXLAN(want, have)
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.index[v.Name] = have.Index
	l.mu.Unlock()
	return errors.Join(l.mendAddr(have.Index, v.Addr), l.mendChecksum(v), l.mendFilter(v.Name))
}

// mendFilter keeps strict reverse path filtering off the device: while modes change, and for what nodes themselves send,
// a packet may come in by another way than its answer leaves.
func (l *Links) mendFilter(dev string) error {
	if dev == ours[1] {
		return nil // IPv6 has no such switch
	}
	return l.conn.Do(func() error {
		return l.proc.put([]model.Sysctl{{Path: "net/ipv4/conf/" + dev + "/rp_filter", Value: "2"}})
	})
}

// mendChecksum has who is wanted compute the checksums of packets that leave by the device.
func (l *Links) mendChecksum(v model.VXLAN) error {
	if v.Checksum == model.ChecksumAny {
		return nil
	}
	want := v.Checksum == model.ChecksumDevice
	offload, err := l.conn.TxChecksum(v.Name)
	if err != nil || offload == want {
		return err
	}
	l.log.Info("checksum offload changed", "dev", v.Name, "offload", want)
	return l.conn.SetTxChecksum(v.Name, want)
}

func (l *Links) makeVXLAN(want netlink.Link) (netlink.Link, error) {
	if err := l.conn.PutVXLAN(want); err != nil {
		return netlink.Link{}, err
	}
	l.log.Info("device made", "dev", want.Name)
	return l.conn.Link(want.Name)
}

// correctVXLAN changes have in place where the kernel can, and makes it anew where it can't.
func (l *Links) correctVXLAN(want, have netlink.Link) (netlink.Link, error) {
	want.Index = have.Index
	if have == want {
		return have, nil
	}
	anew := have.Kind != want.Kind || have.VXLAN.VNI != want.VXLAN.VNI || have.VXLAN.Port != want.VXLAN.Port
	if !anew && have.VXLAN != want.VXLAN {
		err := l.conn.PutVXLAN(want)
		if err != nil {
			l.log.Info("device can't be corrected in place", "dev", want.Name, "err", err)
		}
		anew = err != nil
	}
	if anew {
		if err := l.conn.DeleteLink(have.Index); err != nil {
			return netlink.Link{}, err
		}
		want.Index = 0
		return l.makeVXLAN(want)
	}
	set := netlink.Link{Index: have.Index}
	if have.MTU != want.MTU || have.VXLAN != want.VXLAN { // a new parent may have cut the MTU
		set.MTU = want.MTU
	}
	if have.MAC != want.MAC {
		set.MAC = want.MAC
	}
	if err := l.conn.SetLink(set); err != nil {
		return netlink.Link{}, err
	}
	l.log.Info("device corrected", "dev", want.Name)
	return want, nil
}

// mendAddr leaves addr as the device's only global address. The wanted one is put first, since the kernel drops the
// device's routes with the last one.
func (l *Links) mendAddr(index int, addr netip.Addr) error {
	have, err := l.conn.Addrs(index)
	if err != nil {
		return err
	}
	want := netlink.Addr{Index: index, Prefix: netip.PrefixFrom(addr, addr.BitLen()), Global: true}
	there := false
	for _, a := range have {
		there = there || a == want
	}
	if !there {
		if err := l.conn.PutAddr(want); err != nil {
			return err
		}
	}
	var errs []error
	for _, a := range have {
		if a.Global && a != want {
			errs = append(errs, l.conn.DeleteAddr(a))
		}
	}
	return errors.Join(errs...)
}

// removeVXLAN removes a device of ours that isn't wanted.
func (l *Links) removeVXLAN(name string) error {
	l.mu.Lock()
	delete(l.index, name)
	l.mu.Unlock()
	if index, _ := l.conn.Index(name); index == 0 {
		return nil
	}
	have, err := l.conn.Link(name)
	if errors.Is(err, netlink.ErrNoDevice) {
		return nil
	}
	if err != nil || have.Kind != "vxlan" {
		return err
	}
	l.log.Info("device removed", "dev", name)
	return l.conn.DeleteLink(have.Index)
}
