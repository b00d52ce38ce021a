package agent

import (
	"context"
	"errors"
	"time"

	v3 "github.com/margay-net/margay/pkg/api/v3"
	"github.com/margay-net/margay/pkg/ipam"
	"github.com/margay-net/margay/pkg/store"
)

// errDatastoreLocked is why no addresses are given out, and nothing of IPAM is written.
var errDatastoreLocked = errors.New("the datastore is locked (ClusterInformation default, spec.datastoreReady false): " +
	"pods that run go on; margayctl datastore migrate unlock ends it")

// lastWrites is how long after the lock was seen the datastore is still told of what was given out before. It is longer
// than assignments gather, and shorter than "margayctl datastore migrate lock" waits.
const lastWrites = 2 * time.Second

// lockable is IPAM's datastore while nobody has locked it. Who reads may always read.
type lockable struct {
	ipam.Datastore
	store *store.Store
}

func (l lockable) check() error {
	if since := l.store.Locked(); !since.IsZero() && time.Since(since) > lastWrites {
		return errDatastoreLocked
	}
	return nil
}

func (l lockable) CreateBlock(ctx context.Context, b *v3.IPAMBlock) (*v3.IPAMBlock, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	return l.Datastore.CreateBlock(ctx, b)
}

func (l lockable) UpdateBlock(ctx context.Context, b *v3.IPAMBlock) (*v3.IPAMBlock, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	return l.Datastore.UpdateBlock(ctx, b)
}

func (l lockable) DeleteBlock(ctx context.Context, b *v3.IPAMBlock) error {
	if err := l.check(); err != nil {
		return err
	}
	return l.Datastore.DeleteBlock(ctx, b)
}

func (l lockable) CreateHandle(ctx context.Context, h *v3.IPAMHandle) (*v3.IPAMHandle, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	return l.Datastore.CreateHandle(ctx, h)
}

func (l lockable) UpdateHandle(ctx context.Context, h *v3.IPAMHandle) (*v3.IPAMHandle, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	return l.Datastore.UpdateHandle(ctx, h)
}

func (l lockable) DeleteHandle(ctx context.Context, h *v3.IPAMHandle) error {
	if err := l.check(); err != nil {
		return err
	}
	return l.Datastore.DeleteHandle(ctx, h)
}

func (l lockable) CreateAffinity(ctx context.Context, a *v3.BlockAffinity) (*v3.BlockAffinity, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	return l.Datastore.CreateAffinity(ctx, a)
}

func (l lockable) UpdateAffinity(ctx context.Context, a *v3.BlockAffinity) (*v3.BlockAffinity, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	return l.Datastore.UpdateAffinity(ctx, a)
}

func (l lockable) DeleteAffinity(ctx context.Context, a *v3.BlockAffinity) error {
	if err := l.check(); err != nil {
		return err
	}
	return l.Datastore.DeleteAffinity(ctx, a)
}

// addable returns why pods cannot be added, nil when they can.
func (a *Agent) addable() error {
	if err := a.health.ready(); err != nil {
		return err
	}
	if !a.store.Locked().IsZero() {
		return errDatastoreLocked
	}
	return nil
}
