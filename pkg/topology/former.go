package topology

import (
	"net/netip"

	"github.com/margay-net/margay/pkg/model"
)

// former returns the route that the last plan had to a node's own address, for a destination that is to be reached by VXLAN
// and cannot be yet: the first switch of a live pool takes each node's word for its new tunnel address.
func (f *family) former(dst netip.Prefix, p *peer) (model.Route, bool) {
	if f.last == nil {
		f.last = make(map[netip.Prefix]model.Route, len(f.in.Former))
		for _, r := range f.in.Former {
			f.last[r.Dst] = r
		}
	}
	r, tunl0 := f.last[dst], f.in.Nodes[f.in.Self].IPIPAddr4
	switch {
	case r.Via != p.addr.Addr() || r.Others != "":
		return model.Route{}, false
	case r.Dev == IPIP4 && tunl0.IsValid():
		f.ipip = tunl0
	case r.Dev != f.under.Parent || !p.near:
		return model.Route{}, false
	}
	r.Proto = model.ProtoMargay
	return r, true
}
