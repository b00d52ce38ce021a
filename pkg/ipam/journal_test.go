package ipam

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/margay-net/margay/pkg/model"
	"github.com/margay-net/margay/pkg/netlink/nstest"
)

func entryOf(id string) *Assignment {
	return &Assignment{Handle: "k8s-pod-network." + id, Endpoint: model.Endpoint{ContainerID: id, IfName: "eth0", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}}
}

func mustOpen(t *testing.T, dir, boot string) (*journal, map[string]*Assignment, error) {
	t.Helper()
	j, live, damage, err := openJournal(dir, boot)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.close() })
	return j, live, damage
}

func TestJournalReplay(t *testing.T) {
	dir := t.TempDir()
	j, _, _ := mustOpen(t, dir, "boot1")
	for _, e := range []entry{
		{Op: opAssign, Assign: entryOf("a")}, {Op: opActive, Key: "a/eth0"},
		{Op: opAssign, Assign: entryOf("b")},
		{Op: opAssign, Assign: entryOf("c")}, {Op: opRelease, Key: "c/eth0"},
		{Op: opAssign, Assign: entryOf("d")}, {Op: opRelease, Key: "d/eth0"}, {Op: opDone, Key: "d/eth0"},
	} {
		if err := j.append(e); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, _, err := openJournal(dir, "boot1"); !errors.Is(err, ErrLocked) {
		t.Fatalf("second open: %v, want ErrLocked", err)
	}
	j.close()
	j, live, damage := mustOpen(t, dir, "boot1")
	if damage != nil || len(live) != 3 || !live["a/eth0"].Active || live["b/eth0"].Active || !live["c/eth0"].Released {
		t.Errorf("replayed %v, damage %v", live, damage)
	}
	j.close()
	// Written anew by the open above: the same again.
	j, live, _ = mustOpen(t, dir, "boot1")
	if len(live) != 3 || !live["a/eth0"].Active || !live["c/eth0"].Released || len(live["a/eth0"].Addrs) != 1 {
		t.Errorf("second replay: %v", live)
	}
	j.close()
	if _, live, _ = mustOpen(t, dir, "boot2"); len(live) != 0 {
		t.Errorf("after a reboot %d assignments live", len(live))
	}
}

// TestJournalDamage spoils a journal of two entries at every byte: what is not hit is read, what is hit is reported and
// the file kept.
func TestJournalDamage(t *testing.T) {
	dir := t.TempDir()
	j, _, _ := mustOpen(t, dir, "b")
	if err := j.append(entry{Op: opAssign, Assign: entryOf("a")}, entry{Op: opAssign, Assign: entryOf("z")}); err != nil {
		t.Fatal(err)
	}
	j.close()
	whole, err := os.ReadFile(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	for i := range whole {
		if whole[i] == '\n' {
			continue // joins two lines: both are lost, which the checks below can't tell apart
		}
		bad := bytes.Clone(whole)
		bad[i] ^= 0x11
		sub := t.TempDir()
		if err := os.WriteFile(filepath.Join(sub, "journal"), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		j, live, damage := mustOpen(t, sub, "b")
		j.close()
		if damage == nil || !strings.Contains(damage.Error(), "line ") {
			t.Fatalf("byte %d: damage %v", i, damage)
		}
		if kept, _ := filepath.Glob(filepath.Join(sub, "*.damaged")); len(kept) != 1 {
			t.Fatalf("byte %d: damaged file not kept", i)
		}
		if hit := i >= len(lines[0])+len(lines[1]); (live["z/eth0"] == nil) != hit {
			t.Fatalf("byte %d: second entry read: %v", i, live["z/eth0"] != nil)
		}
	}
	for n := range whole { // cut short by a crash
		sub := t.TempDir()
		if err := os.WriteFile(filepath.Join(sub, "journal"), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		j, live, _ := mustOpen(t, sub, "b")
		j.close()
		if (live["a/eth0"] != nil) != (n >= len(lines[0])+len(lines[1])) {
			t.Fatalf("cut at %d: first entry read: %v", n, live["a/eth0"] != nil)
		}
	}
}

// TestJournalFullDisk fills a small file system: the failed entry leaves no trace, and what was written before stays.
func TestJournalFullDisk(t *testing.T) {
	nstest.Root(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	j, _, _ := mustOpen(t, dir, "b")
	written := 0
	var err error
	for ; written < 10000; written++ {
		if err = j.append(entry{Op: opAssign, Assign: entryOf("id" + strings.Repeat("0", written))}); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("append on a full disk: %v", err)
	}
	j.lock.Close()
	live, damage, err := (&journal{path: j.path, boot: "b"}).load()
	if err != nil || damage != nil || len(live) != written {
		t.Errorf("after a full disk: %d of %d read, damage %v, %v", len(live), written, damage, err)
	}
}
