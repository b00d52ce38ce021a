package bird

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/status"
)

var now = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

var peers = []status.Peer{
	{Addr: netip.MustParseAddr("192.168.10.12"), Type: status.PeerMesh, Up: true, Since: now.Add(-time.Hour), State: "Established"},
	{Addr: netip.MustParseAddr("fd80:24e2:f998:72d7::2"), Type: status.PeerMesh, Up: true, Since: now.Add(-time.Hour), State: "Established"},
	{Addr: netip.MustParseAddr("192.168.10.13"), Type: status.PeerNode, Since: now.Add(-48 * time.Hour), State: "Active", Info: "Socket: Connection refused"},
	{Addr: netip.MustParseAddr("192.168.42.1"), Type: status.PeerGlobal, Since: now.Add(-19 * time.Hour), State: "OpenSent"},
	{Type: status.PeerGlobal, State: status.Refused, Info: "Error: Has no address"},
	{Addr: netip.MustParseAddr("192.168.42.2"), Type: status.PeerGlobal, Since: now, State: "Passive"},
	{Addr: netip.MustParseAddr("192.168.42.3"), Type: status.PeerGlobal, Since: now, State: "Idle", Info: "BGP Error: Hold timer expired"},
	{Addr: netip.MustParseAddr("192.168.42.4"), Type: status.PeerGlobal, State: status.Refused, Info: "Error: There is no BGPFilter \"x\""},
}

// talk is a session with a server; each reply ends with a line that begins with a code and a blank.
func talk(t *testing.T, path string, commands ...string) string {
	t.Helper()
	var c net.Conn
	var err error
	for range 4000 {
		if c, err = net.Dial("unix", path); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in, out := bufio.NewReader(c), ""
	read := func() {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("%q, then %v", out, err)
			}
			out += line
			if len(line) > 4 && line[0] != ' ' && line[4] == ' ' {
				return
			}
		}
	}
	read()
	for _, command := range commands {
		if _, err := c.Write([]byte(command + "\n")); err != nil {
			t.Fatal(err)
		}
		read()
	}
	return out
}

func serve(t *testing.T, dir string) {
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	s := New(Options{
		Dir: dir, Node: "node1", Version: "v1", Started: now.Add(-time.Hour), Now: func() time.Time { return now },
		Peers: func() []status.Peer { return peers }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	done.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() { stop(); done.Wait() })
}

func TestProtocols(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir)
	want := `0001 BIRD v1 ready.
2002-name     proto    table    state  since       info
1002-Mesh_192_168_10_12 BGP      master   up     08:00:00    Established   
 Node_192_168_10_13 BGP      master   start  2026-11-20  Active        Socket: Connection refused
 Global_192_168_42_1 BGP      master   start  14:00:00    OpenSent      
 Global_192_168_42_2 BGP      master   start  09:00:00    Passive       
 Global_192_168_42_3 BGP      master   start  09:00:00    Idle          BGP Error: Hold timer expired
 Global_192_168_42_4 BGP      master   down   09:00:00    Refused       Error: There is no BGPFilter "x"
0000 
`
	if have := talk(t, filepath.Join(dir, "bird.ctl"), "show protocols"); have != want {
		t.Errorf("have\n%s\nwant\n%s", have, want)
	}
	want = `0001 BIRD v1 ready.
1000-BIRD v1
1011-Router ID is node1
 Current server time is 2026-11-22 09:00:00
 Last reboot on 2026-11-22 08:00:00
 Last reconfiguration on 2026-11-22 08:00:00
0013 Daemon is up and running
2002-name     proto    table    state  since       info
1002-Mesh_fd80_24e2_f998_72d7__2 BGP      master   up     08:00:00    Established   
0000 
`
	if have := talk(t, filepath.Join(dir, "bird6.ctl"), "show status", "show  protocols"); have != want {
		t.Errorf("have\n%s\nwant\n%s", have, want)
	}
	if have := talk(t, filepath.Join(dir, "bird.ctl"), "down"); !strings.Contains(have, "\n9001 syntax error") {
		t.Errorf("a command that changes something: %s", have)
	}
}

// TestLeavesBirdAlone: where a real BIRD answers, the socket stays its.
func TestLeavesBirdAlone(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "bird.ctl"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("0001 BIRD 1.6.8 ready.\n"))
			c.Close()
		}
	}()
	serve(t, dir)
	talk(t, filepath.Join(dir, "bird6.ctl"))
	if have := talk(t, filepath.Join(dir, "bird.ctl")); have != "0001 BIRD 1.6.8 ready.\n" {
		t.Errorf("somebody else answers: %s", have)
	}
}
