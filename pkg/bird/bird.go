package bird

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/margay-net/margay/pkg/status"
)

const (
	idleLimit = 30 * time.Second
	retry     = 10 * time.Second
	maxLine   = 1024 // bytes of a command
)

// Options of New.
type Options struct {
	Dir     string // folder of the sockets
	Node    string // for "show status"
	Version string
	Started time.Time
	Peers   func() []status.Peer // of both families; called for each request
	Now     func() time.Time     // nil: time.Now
	Log     *slog.Logger
}

// Server answers on both sockets.
type Server struct{ Options }

// New returns a server that does not listen yet.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{o}
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { s.serve(ctx, "bird.ctl", false); return nil })
	g.Go(func() error { s.serve(ctx, "bird6.ctl", true); return nil })
	return g.Wait()
}

func (s *Server) serve(ctx context.Context, name string, family6 bool) {
	path, last := filepath.Join(s.Dir, name), ""
	for ctx.Err() == nil {
		l, err := status.Listen(path)
		if err == nil {
			status.Serve(ctx, l, func(c net.Conn) { s.handle(c, family6) })
			return
		}
		if err.Error() != last {
			if errors.Is(err, status.ErrInUse) {
				s.Log.Warn("another program answers in BIRD's place; it is left alone", "socket", path)
			} else {
				s.Log.Error("cannot answer in BIRD's place; it is tried again", "err", err)
			}
			last = err.Error()
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

func (s *Server) handle(c net.Conn, family6 bool) {
	in := bufio.NewReaderSize(c, maxLine)
	reply := fmt.Sprintf("0001 BIRD %s ready.\n", s.Version)
	for {
		if c.SetDeadline(time.Now().Add(idleLimit)) != nil {
			return
		}
		if _, err := c.Write([]byte(reply)); err != nil {
			return
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		words := strings.Fields(string(line))
		if len(words) == 1 && (words[0] == "quit" || words[0] == "exit") {
			return
		}
		reply = s.reply(words, family6)
	}
}

func (s *Server) reply(words []string, family6 bool) string {
	switch strings.Join(words, " ") {
	case "":
		return "0000 \n"
	case "show protocols":
		return protocols(s.Peers(), family6, s.Now())
	case "show status":
		const form = "2006-01-02 15:04:05"
		return fmt.Sprintf("1000-BIRD %s\n1011-Router ID is %s\n Current server time is %s\n Last reboot on %s\n Last reconfiguration on %s\n0013 Daemon is up and running\n",
			s.Version, s.Node, s.Now().Format(form), s.Started.Format(form), s.Started.Format(form))
	}
	return "9001 syntax error, unexpected CF_SYM_UNDEFINED: known are show protocols, show status and quit\n"
}

// protocols is the table of "show protocols".
func protocols(peers []status.Peer, family6 bool, now time.Time) string {
	out := strings.Builder{}
	out.WriteString("2002-name     proto    table    state  since       info\n")
	code := "1002-"
	for _, p := range peers {
		if !p.Addr.IsValid() || p.Addr.Is6() != family6 {
			continue
		}
		fmt.Fprintf(&out, "%s%-8s %-8s %-8s %-6s %-10s  %-13s %s\n", code, name(p), "BGP", "master", p.Proto(), Since(p.Since, now), p.State, p.Info)
		code = " "
	}
	out.WriteString("0000 \n")
	return out.String()
}

// name of a peer's protocol.
func name(p status.Peer) string {
	kind := map[status.PeerType]string{status.PeerMesh: "Mesh_", status.PeerNode: "Node_", status.PeerGlobal: "Global_"}[p.Type]
	return kind + strings.NewReplacer(".", "_", ":", "_").Replace(p.Addr.WithZone("").String())
}

// Since shows a time as BIRD does: of the last 20 hours the time of day, else the date. A time that is not known is now.
func Since(t, now time.Time) string {
	if t.IsZero() {
		t = now
	}
	t = t.In(now.Location())
	if d := now.Sub(t); d < 20*time.Hour && d > -20*time.Hour {
		return t.Format("15:04:05")
	}
	return t.Format(time.DateOnly)
}
