package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/margay-net/margay/pkg/cni/wire"
)

// release tells the agent that a sandbox's interface is gone, or keeps that for later. It reports whether the agent has
// taken the host side away. An agent that is not there, gives no answer or says anything but done or unknown (one of
// another version may not take the request) is told through the spool. The error is a CNI error: neither worked, and the
// runtime must call DEL again.
func (s *sandbox) release() (removed bool, err error) {
	req := s.request(wire.OpRelease)
	resp, err := askOnce(s.conf.Socket, req, delTimeout)
	var said *wire.Error
	switch {
	case err == nil:
		return resp.Removed, nil
	case errors.As(err, &said) && said.Code == wire.Unknown:
		return false, nil
	}
	if kept := spool(s.conf.Spool, req); kept != nil {
		return false, types.NewError(types.ErrTryAgainLater,
			fmt.Sprintf("release addresses: %v; and the release could not be kept for later: %v", err, kept),
			"make room for small files in "+s.conf.Spool+", or start the agent; the runtime calls DEL again")
	}
	return false, nil
}

// spool keeps a release for the agent's next start: a file of its own, complete or not there. It is not synced: a machine
// that loses power has lost its pods too, and the garbage collector finds what they had.
func spool(dir string, req *wire.Request) error {
	data, err := json.Marshal(req)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	name := filepath.Join(dir, req.ContainerID+"-"+req.IfName+".json")
	temp := fmt.Sprintf("%s.%d.tmp", name, os.Getpid())
	if err := os.WriteFile(temp, append(data, '\n'), 0o600); err != nil {
		os.Remove(temp)
		return err
	}
	if err := os.Rename(temp, name); err != nil {
		os.Remove(temp)
		return err
	}
	return nil
}
