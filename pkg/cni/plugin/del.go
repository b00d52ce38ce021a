package plugin

import (
	"github.com/containernetworking/cni/pkg/skel"
)

// del is the verb DEL. It is done when nothing of the sandbox is left and the agent knows, or will know by the spool.
// Each half is tried whatever becomes of the other; DEL of what is not there, or no longer, is success.
//
// An agent that answers has taken the host side away already, in the background. Else the pair is deleted here, and only
// if it is this very sandbox's: the name of the host side is the pod's, and a new sandbox of the same pod may have it by
// now. A namespace that is gone has taken its half of the pair, and so the other, with it.
func del(args *skel.CmdArgs) error {
	s, err := newSandbox(args)
	if err != nil {
		return err
	}
	removed, err := s.release()
	if !removed {
		err = also(err, "delete interface", s.deletePair())
	}
	return cniError("delete "+s.String(), err)
}

func (s *sandbox) deletePair() error {
	if s.netns == "" {
		return nil
	}
	pod, err := openPodNS(s.netns)
	if err != nil {
		return nil // gone, or no namespace any more
	}
	defer pod.close()
	host, err := openHost()
	if err != nil {
		return err
	}
	defer host.Close()
	link, err := findPair(host, pod, s.ifName)
	if err != nil || link == nil {
		return err
	}
	return deleteLink(host, link)
}
