package calicoctl_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/margay-net/margay/pkg/bird"
	"github.com/margay-net/margay/pkg/ctl/ctltest"
	"github.com/margay-net/margay/pkg/ctl/node"
	"github.com/margay-net/margay/pkg/netlink/nstest"
	"github.com/margay-net/margay/pkg/status"
)

// TestNodeStatus: calicoctl reads a node's BGP sessions from our bird.ctl, and margayctl prints the same letter by letter.
func TestNodeStatus(t *testing.T) {
	if os.Geteuid() != 0 {
		nstest.Need(t, "root")
	}
	c := findTool(t)
	now := time.Now()
	peer := func(addr string, kind status.PeerType, state string, ago time.Duration) status.Peer {
		return status.Peer{Addr: netip.MustParseAddr(addr), Type: kind, Up: state == "Established", State: state, Since: now.Add(-ago)}
	}
	for name, peers := range map[string][]status.Peer{
		"mesh off": nil,
		"mesh":     {peer("192.168.10.12", status.PeerMesh, "Established", time.Hour)},
		"all": {
			peer("192.168.10.12", status.PeerMesh, "Established", time.Hour), peer("192.168.10.13", status.PeerMesh, "Passive", time.Hour),
			peer("192.168.10.14", status.PeerNode, "Idle", 48*time.Hour), peer("192.168.10.15", status.PeerNode, "OpenConfirm", 0),
			peer("192.168.42.1", status.PeerGlobal, "Active", time.Hour), peer("192.168.42.2", status.PeerGlobal, status.Refused, time.Hour),
			peer("fd00::42", status.PeerGlobal, "OpenSent", time.Hour), peer("fd80:24e2:f998:72d7::2", status.PeerMesh, "Established", time.Hour),
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			serveStatus(t, dir, peers)
			theirs, ours := nodeStatus(t, c.path, dir), margayctlStatus(t, dir)
			if theirs != ours {
				t.Errorf("calicoctl prints\n%s\nmargayctl prints\n%s", theirs, ours)
			}
		})
	}
	// This calicoctl breaks long reasons into lines, later ones and margayctl do not.
	t.Run("reasons", func(t *testing.T) {
		dir := t.TempDir()
		refused, timeout := peer("192.168.42.1", status.PeerGlobal, "Active", 48*time.Hour), peer("192.168.42.2", status.PeerGlobal, "Active", 48*time.Hour)
		refused.Info, timeout.Info = status.InfoOf("connect: connection refused"), status.InfoOf("hold timer expired")
		wrong := peer("192.168.42.3", status.PeerGlobal, status.Refused, 48*time.Hour)
		wrong.Info = status.InfoOf(`there is no BGPFilter "fabric"`)
		for _, p := range []*status.Peer{&refused, &timeout, &wrong} {
			p.Since = time.Date(2026, 11, 20, 0, 0, 0, 0, time.Local)
		}
		serveStatus(t, dir, []status.Peer{refused, timeout, wrong})
		if have := nodeStatus(t, c.path, dir); c.ours {
			ctltest.Golden(t, "node-status-reasons.txt", have)
		}
	})
}

// serveStatus answers for an agent with these peers, until the test ends.
func serveStatus(t *testing.T, dir string, peers []status.Peer) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	log := slog.New(slog.DiscardHandler)
	b := bird.New(bird.Options{Dir: dir, Node: "node1", Version: "v1", Started: time.Now(), Peers: func() []status.Peer { return peers }, Log: log})
	s := status.New(status.Options{Socket: filepath.Join(dir, status.Socket), Status: func() status.Status { return status.Status{Peers: peers} }, Log: log})
	var done sync.WaitGroup
	done.Go(func() { _ = b.Run(ctx) })
	done.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() { stop(); done.Wait() })
	for _, name := range []string{"bird.ctl", "bird6.ctl", status.Socket} {
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if conn, err := net.Dial("unix", filepath.Join(dir, name)); err == nil {
				conn.Close()
				break
			} else if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
}

// nodeStatus runs calicoctl where /run/calico is this folder, and where processes of the names that it looks for run.
func nodeStatus(t *testing.T, calicoctl, dir string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", `set -e
mount --bind "$2" /mnt && mount -t tmpfs none /run && mkdir /run/calico && mount --bind /mnt /run/calico
for name in calico-felix bird bird6; do (exec -a $name sleep 60) >/dev/null & done
for name in calico-felix bird bird6; do until grep -qzx $name /proc/[0-9]*/cmdline; do sleep 0.01; done; done
"$1" node status`, "bash", calicoctl, dir)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		t.Fatalf("calicoctl node status: %v\n%s%s", err, out.String(), problems.String())
	}
	return out.String()
}

func margayctlStatus(t *testing.T, dir string) string {
	t.Helper()
	cmd := node.Command(nil)
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"status", "--socket", filepath.Join(dir, status.Socket)})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
