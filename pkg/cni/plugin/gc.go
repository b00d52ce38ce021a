package plugin

import (
	"encoding/json"
	"errors"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/margay-net/margay/pkg/cni/wire"
)

// gc is the verb GC: the agent releases all attachments of this network but the listed ones. A configuration without the
// list is refused: taken for an empty one, it would take the addresses of all pods away.
func gc(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	const key = "cni.dev/valid-attachments"
	if conf.Valid == nil {
		return badConfig(key, "is missing", "GC needs the list of all attachments that live, an empty one if there are none")
	}
	var valid []types.GCAttachment
	if err := json.Unmarshal(conf.Valid, &valid); err != nil {
		return badConfig(key, err.Error(), "give an array of objects with containerID and ifname")
	}
	req := &wire.Request{Op: wire.OpGC, Network: conf.Name}
	for _, v := range valid {
		req.Valid = append(req.Valid, wire.Attachment{ContainerID: v.ContainerID, IfName: v.IfName})
	}
	_, err = askOnce(conf.Socket, req, wire.Timeout)
	return cniError("collect garbage of network "+conf.Name, err)
}

// status is the verb STATUS: can an ADD succeed now? Whatever keeps the agent from saying yes has the same code.
func status(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	_, err = askOnce(conf.Socket, &wire.Request{Op: wire.OpStatus}, wire.Timeout)
	var e *types.Error
	if errors.As(cniError("status of network "+conf.Name, err), &e) {
		return types.NewError(types.ErrPluginNotAvailable, e.Msg, e.Details)
	}
	return nil
}
