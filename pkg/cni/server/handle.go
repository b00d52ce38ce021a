package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/model"
)

// handle answers one well-formed request.
func (s *Server) handle(ctx context.Context, c *conn, r *wire.Request) *wire.Response {
	if err := check(r); err != nil {
		return &wire.Response{Code: wire.Invalid, Msg: err.Error()}
	}
	switch r.Op {
	case wire.OpAssign:
		return s.assign(ctx, c, r)
	case wire.OpActivate:
		return s.activate(ctx, c, r)
	case wire.OpRelease:
		resp := s.release(ctx, r)
		if key := (model.Endpoint{ContainerID: r.ContainerID, IfName: r.IfName}).Key(); resp.Code == wire.OK {
			if _, ours := c.open[key]; ours {
				s.closeOpen(c, key)
			}
		}
		return resp
	case wire.OpCheck:
		return s.check(ctx, r)
	case wire.OpGC:
		return s.gc(ctx, r)
	default:
		return answer(s.Ready(), wire.NotReady)
	}
}

// answer makes a response of an error, of code when the error has none of its own.
func answer(err error, code wire.Code) *wire.Response {
	switch {
	case err == nil:
		return &wire.Response{}
	case errors.Is(err, ipam.ErrUnknown):
		return &wire.Response{Code: wire.Unknown, Msg: err.Error(), Hint: "the agent has no such container; it was deleted or never added"}
	case errors.Is(err, ipam.ErrExists), errors.Is(err, ipam.ErrBusy):
		return &wire.Response{Code: wire.Invalid, Msg: err.Error(), Hint: "DEL the container before it is added again"}
	case errors.Is(err, ipam.ErrFull):
		return &wire.Response{Code: wire.Exhausted, Msg: err.Error()}
	case errors.Is(err, ipam.ErrInUse):
		return &wire.Response{Code: wire.NotReady, Msg: err.Error(), Hint: "end who has the address (kubectl get pods -A -o wide), or ask for another one in the pod's annotation"}
	case errors.Is(err, ipam.ErrNoSuchPool):
		return &wire.Response{Code: wire.Invalid, Msg: err.Error(), Hint: "ask for an address of an enabled IPPool (kubectl get ippools) in the pod's annotation"}
	case errors.Is(err, ipam.ErrNoPool):
		return &wire.Response{Code: wire.NotReady, Msg: err.Error(), Hint: "make an IPPool, or enable one (kubectl get ippools)"}
	case errors.Is(err, ipam.ErrNotReady), errors.Is(err, context.DeadlineExceeded):
		return &wire.Response{Code: wire.NotReady, Msg: err.Error(), Hint: "see the agent's log for the API server's state"}
	default:
		return &wire.Response{Code: code, Msg: err.Error()}
	}
}

var (
	idPattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$`)
	linkPattern = regexp.MustCompile(`^[^\s/]{1,15}$`)
)

// check refuses requests whose fields are missing or could not be stored, and names the field.
func check(r *wire.Request) error {
	need := func(field, value string, p *regexp.Regexp) error {
		if !p.MatchString(value) {
			return fmt.Errorf("%s: field %s: %q does not match %s", r.Op, field, value, p)
		}
		return nil
	}
	switch r.Op {
	case wire.OpAssign:
		return errors.Join(
			need("containerID", r.ContainerID, idPattern), need("ifName", r.IfName, linkPattern),
			need("network", r.Network, idPattern), need("namespace", r.Namespace, idPattern), need("pod", r.Pod, idPattern))
	case wire.OpActivate, wire.OpRelease, wire.OpCheck:
		return errors.Join(need("containerID", r.ContainerID, idPattern), need("ifName", r.IfName, linkPattern))
	case wire.OpGC:
		return need("network", r.Network, idPattern)
	case wire.OpStatus:
		return nil
	default:
		return fmt.Errorf("field op: %q is none of assign, activate, release, check, gc, status", r.Op)
	}
}

// startPatience is how long an assign waits for an agent that starts: so a restart fails no pod's start.
const startPatience = 3 * time.Second

// waitReady returns why pods cannot be added, after a while.
func (s *Server) waitReady(ctx context.Context) error {
	for end := time.Now().Add(startPatience); ; {
		err := s.Ready()
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *Server) assign(ctx context.Context, c *conn, r *wire.Request) *wire.Response {
	if err := s.waitReady(ctx); err != nil {
		return answer(err, wire.NotReady)
	}
	want := model.Endpoint{Network: r.Network, ContainerID: r.ContainerID, IfName: r.IfName, Namespace: r.Namespace, Pod: r.Pod,
		HostVeth: model.InterfaceVeth(r.Namespace, r.Pod, r.IfName)}
	key := want.Key()
	ep, mac, failed := s.give(ctx, r, want)
	if failed != nil {
		return failed
	}
	c.open[key] = ep
	s.mu.Lock()
	s.open[key] = ep
	s.mu.Unlock()
	return &wire.Response{Assigned: &wire.Assigned{Addrs: ep.Addrs, HostVeth: ep.HostVeth, MTU: s.MTU(), MAC: mac}}
}

func (s *Server) activate(ctx context.Context, c *conn, r *wire.Request) *wire.Response {
	key := model.Endpoint{ContainerID: r.ContainerID, IfName: r.IfName}.Key()
	ep, ok := c.open[key]
	if !ok {
		return answer(fmt.Errorf("activate %s: %w", key, ipam.ErrUnknown), wire.Unknown)
	}
	err := s.Dataplane.Up(ctx, ep)
	if err == nil {
		err = s.IPAM.Activate(key)
	}
	if err != nil {
		err = errors.Join(err, s.Dataplane.Down(ctx, ep, true))
		return answer(fmt.Errorf("activate pod %s/%s: %w", ep.Namespace, ep.Pod, err), wire.Internal)
	}
	s.closeOpen(c, key)
	return &wire.Response{}
}

// release is idempotent. The address is free for others only after the interface is gone. The interface of an endpoint
// that is unknown here, or not active yet, is left to the plugin, which can tell its own from others of the same name.
func (s *Server) release(ctx context.Context, r *wire.Request) *wire.Response {
	key := model.Endpoint{ContainerID: r.ContainerID, IfName: r.IfName}.Key()
	ep, ok := s.IPAM.Lookup(key)
	if !ok {
		// Its addresses may be in our blocks all the same, when a reboot took the journal.
		if err := s.Ready(); err != nil {
			return answer(err, wire.NotReady) // the plugin spools it
		}
		s.IPAM.Release(key)
		return &wire.Response{}
	}
	keepLink := s.owned(ep)
	if err := s.Dataplane.Down(ctx, ep, keepLink); err != nil {
		// The interface may stay; the plugin tries itself. Its address must not be given out meanwhile.
		return answer(fmt.Errorf("release %s: %w", ep.Key(), err), wire.Internal)
	}
	s.IPAM.Release(ep.Key())
	return &wire.Response{Removed: !keepLink}
}

// owned says whether somebody else has ep's interface: a newer sandbox of the same pod, or the plugin, whose ADD is
// under way.
func (s *Server) owned(ep model.Endpoint) bool {
	s.mu.Lock()
	for _, other := range s.open {
		if other.HostVeth == ep.HostVeth {
			s.mu.Unlock()
			return true
		}
	}
	s.mu.Unlock()
	return slices.ContainsFunc(s.IPAM.Endpoints(), func(o model.Endpoint) bool {
		return o.HostVeth == ep.HostVeth && o.Key() != ep.Key()
	})
}

func (s *Server) check(ctx context.Context, r *wire.Request) *wire.Response {
	key := model.Endpoint{ContainerID: r.ContainerID, IfName: r.IfName}.Key()
	ep, ok := s.IPAM.Lookup(key)
	if !ok {
		return answer(fmt.Errorf("check %s: %w", key, ipam.ErrUnknown), wire.Unknown)
	}
	has := slices.Clone(r.Addrs)
	slices.SortFunc(has, netip.Addr.Compare)
	want := slices.SortedFunc(slices.Values(ep.Addrs), netip.Addr.Compare)
	if !slices.Equal(has, want) {
		return &wire.Response{Code: wire.Mismatch, Msg: fmt.Sprintf("check pod %s/%s: interface has addresses %v, assigned are %v", ep.Namespace, ep.Pod, has, want)}
	}
	return answer(s.Dataplane.Check(ctx, ep), wire.Mismatch)
}

// gc releases the endpoints of a network that the runtime does not name.
func (s *Server) gc(ctx context.Context, r *wire.Request) *wire.Response {
	valid := map[string]bool{}
	for _, a := range r.Valid {
		valid[model.Endpoint{ContainerID: a.ContainerID, IfName: a.IfName}.Key()] = true
	}
	var errs []error
	for _, ep := range s.IPAM.Endpoints() {
		if valid[ep.Key()] || ep.Network != r.Network {
			continue
		}
		s.Log.Info("runtime no longer knows this container; its addresses are released", "pod", ep.Namespace+"/"+ep.Pod, "container", ep.ContainerID)
		resp := s.release(ctx, &wire.Request{Op: wire.OpRelease, ContainerID: ep.ContainerID, IfName: ep.IfName})
		errs = append(errs, resp.Err())
	}
	return answer(errors.Join(errs...), wire.Internal)
}
