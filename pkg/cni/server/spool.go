package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/margay-net/margay/pkg/cni/wire"
)

// spoolEvery is how often the spool is looked at: it fills only while no agent answers.
const spoolEvery = 10 * time.Second

// Drain does the releases that the plugin spooled while no agent answered, now and every few seconds until ctx ends.
func (s *Server) Drain(ctx context.Context) error {
	t := time.NewTicker(spoolEvery)
	defer t.Stop()
	for {
		if err := s.DrainOnce(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("read the spool of releases failed", "dir", s.Spool, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// DrainOnce does what is in the spool now.
func (s *Server) DrainOnce(ctx context.Context) error {
	files, err := os.ReadDir(s.Spool)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue // a plugin is writing it
		}
		if err := s.drainFile(ctx, filepath.Join(s.Spool, f.Name())); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// drainFile does one spooled release. A file that can't be read as one is set aside, since it never could be.
func (s *Server) drainFile(ctx context.Context, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var r wire.Request
	if err = wire.Decode(b, &r); err == nil && r.Op != wire.OpRelease {
		err = fmt.Errorf("field op: %q, want release", r.Op)
	}
	if err == nil {
		err = check(&r)
	}
	if err != nil {
		s.Log.Error("spooled release is damaged and set aside; the audit will find its address", "file", path, "err", err)
		return os.Rename(path, strings.TrimSuffix(path, ".json")+".damaged")
	}
	ctx, cancel := context.WithTimeout(ctx, workLimit)
	defer cancel()
	if err := s.release(ctx, &r).Err(); err != nil {
		return fmt.Errorf("release of %s: %w", path, err)
	}
	s.Log.Info("did a spooled release", "container", r.ContainerID)
	return os.Remove(path)
}
