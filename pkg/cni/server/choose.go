package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/pods"
)

// Pods says what a pod asks for.
type Pods interface {
	Choose(ctx context.Context, r pods.Ref, f pods.Features) (pods.Choice, error)
}

// Foreign keeps addresses that IPAM has no part in; see package foreign.
type Foreign interface {
	Take(ep model.Endpoint) (model.Endpoint, error)
}

// give has addresses assigned to an endpoint as its pod asks for them. A nil response means that it was done.
func (s *Server) give(ctx context.Context, r *wire.Request, want model.Endpoint) (ep model.Endpoint, mac string, failed *wire.Response) {
	pod := r.Namespace + "/" + r.Pod
	var choice pods.Choice
	if s.Pods != nil {
		var f pods.Features
		if r.Features != nil {
			f = pods.Features{IPAddrsNoIPAM: r.Features.IPAddrsNoIPAM, FloatingIPs: r.Features.FloatingIPs}
		}
		var err error
		choice, err = s.Pods.Choose(ctx, pods.Ref{Namespace: r.Namespace, Name: r.Pod, UID: r.PodUID}, f)
		switch {
		case errors.Is(err, pods.ErrNoPool):
			return ep, "", &wire.Response{Code: wire.NotReady, Msg: "assign address to pod " + pod + ": " + err.Error(),
				Hint: "make an IPPool whose selectors select node and namespace, or enable one (kubectl get ippools)"}
		case err != nil:
			return ep, "", &wire.Response{Code: wire.Invalid, Msg: "assign address to pod " + pod + ": " + strings.ReplaceAll(err.Error(), "\n", "; ")}
		}
	}
	var err error
	if choice.NoIPAM {
		want.Addrs = choice.Addrs
		ep, err = s.Foreign.Take(want)
	} else {
		ep, err = s.IPAM.Assign(ctx, ipam.Request{Endpoint: want, Pools: choice.Pools, Addrs: choice.Addrs})
	}
	if err != nil {
		return ep, "", answer(fmt.Errorf("assign address to pod %s: %w", pod, err), wire.Internal)
	}
	return ep, choice.MAC, nil
}
