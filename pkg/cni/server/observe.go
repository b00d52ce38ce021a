package server

import (
	"time"

	"github.com/margay-net/margay/pkg/cni/wire"
	"github.com/margay-net/margay/pkg/model"
)

// Served is told of each verb that a runtime's call came to an end with, as far as the agent sees it: how long it took and
// how it ended. An ADD is one call, from the request for an address to the answer that its routes stand, the plugin's work
// in between included; one that the plugin has given up or died in ends as Abandoned. It must not block.
type Served func(verb string, took time.Duration, end wire.Code)

// Verbs of CNI, as Served is told of them.
const (
	VerbAdd    = "ADD"
	VerbDel    = "DEL"
	VerbCheck  = "CHECK"
	VerbGC     = "GC"
	VerbStatus = "STATUS"
)

// Verbs are all of them.
var Verbs = []string{VerbAdd, VerbDel, VerbCheck, VerbGC, VerbStatus}

// Abandoned is the end of an ADD that was not activated; no response has it.
const Abandoned wire.Code = -1

var verbs = map[wire.Op]string{wire.OpRelease: VerbDel, wire.OpCheck: VerbCheck, wire.OpGC: VerbGC, wire.OpStatus: VerbStatus}

func (s *Server) served(verb string, since time.Time, end wire.Code) {
	if s.Served != nil {
		s.Served(verb, time.Since(since), end)
	}
}

// observe tells of a request's end.
func (s *Server) observe(c *conn, r *wire.Request, handle func() *wire.Response) *wire.Response {
	start, key := time.Now(), model.Endpoint{ContainerID: r.ContainerID, IfName: r.IfName}.Key()
	added, adding := c.since[key]
	resp := handle()
	_, open := c.open[key]
	switch {
	case r.Op == wire.OpAssign && resp.Code == wire.OK:
		c.since[key] = start // the ADD ends with activate, or with the connection
	case r.Op == wire.OpAssign:
		s.served(VerbAdd, start, resp.Code)
	case r.Op == wire.OpActivate && adding:
		s.served(VerbAdd, added, resp.Code)
		delete(c.since, key)
	case r.Op == wire.OpRelease && adding && !open:
		s.served(VerbAdd, added, Abandoned)
	default:
		if verb := verbs[r.Op]; verb != "" {
			s.served(verb, start, resp.Code)
		}
	}
	return resp
}
