package health

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// wantWords fails unless err has these words; no words: unless it is nil.
func wantWords(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	if (err != nil) != (len(words) > 0) {
		t.Errorf("%s: %v, want %q", what, err, words)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %q lacks %q", what, err, word)
		}
	}
}

// mount mounts something until the test ends.
func mount(t *testing.T, source, at, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, at, kind, flags, data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func remount(t *testing.T, at string, flags uintptr) {
	t.Helper()
	if err := unix.Mount("", at, "", unix.MS_REMOUNT|flags, ""); err != nil {
		t.Fatal(err)
	}
}

func TestFolder(t *testing.T) {
	nstest.Root(t)
	dir := t.TempDir()
	look := func() error { return Folder("journal's folder", dir) }
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=64k")
	wantWords(t, "empty", look())
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk takes more than it has")
	}
	wantWords(t, "full", look(), "journal's folder cannot be written", "no space left on device")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	wantWords(t, "room again", look())
	remount(t, dir, unix.MS_RDONLY)
	wantWords(t, "read-only", look(), "read-only file system")
	remount(t, dir, 0)
	wantWords(t, "writable again", look())
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("looking leaves %v, %v", left, err)
	}
	dir = filepath.Join(dir, "gone")
	wantWords(t, "gone", look(), "no such file or directory")
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	look := func() error { return Socket("CNI socket", path) }
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	wantWords(t, "there", look())
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantWords(t, "removed", look(), "CNI socket "+path+" is gone")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantWords(t, "a file in its place", look(), "is no socket any more")
}

func TestSysctls(t *testing.T) {
	nstest.Root(t)
	dir := t.TempDir()
	look := func() error { return Sysctls(dir) }
	wantWords(t, "no mount", look(), "sysctls cannot be written", "no such file")
	mount(t, "/proc/sys", dir, "", unix.MS_BIND, "")
	wantWords(t, "as in the manifest", look())
	remount(t, dir, unix.MS_BIND|unix.MS_RDONLY)
	wantWords(t, "as in a container without that mount", look(), "ip_forward: read-only file system")
	remount(t, dir, unix.MS_BIND)
	wantWords(t, "writable again", look())
}

// TestNetAdmin looks again on a thread that has given the capability up, and ends.
func TestNetAdmin(t *testing.T) {
	nstest.Root(t)
	wantWords(t, "root", NetAdmin())
	without := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&header, &data[0])
		if err == nil {
			data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
			err = unix.Capset(&header, &data[0])
		}
		if err != nil {
			t.Error(err)
		}
		without <- NetAdmin()
	}()
	wantWords(t, "without it", <-without, "lacks the capability NET_ADMIN")
}

func BenchmarkLooks(b *testing.B) {
	dir := b.TempDir()
	b.ReportAllocs()
	for b.Loop() {
		_ = Folder("folder", dir)
		_ = Sysctls("/proc/sys")
		_ = NetAdmin()
		_ = Socket("socket", dir)
	}
}
