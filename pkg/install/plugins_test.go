package install

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/margay-net/margay/pkg/netlink/nstest"
)

// lab is a node's folders in the test's own.
type lab struct {
	*testing.T
	Config
}

func newLab(t *testing.T) *lab {
	t.Helper()
	dir := t.TempDir()
	l := &lab{t, Config{
		BinDir: filepath.Join(dir, "bin"), NetDir: filepath.Join(dir, "net.d"), RunDir: filepath.Join(dir, "run"),
		Record: filepath.Join(dir, "lib/plugins.sha256"), Source: filepath.Join(dir, "image"), ConfName: DefaultConfName,
		TakeOver: strings.Split(DefaultTakeOver, ","),
	}}
	for _, d := range []string{l.BinDir, l.NetDir, l.RunDir, l.Source} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l.image("v1")
	return l
}

// image fills the image's folder.
func (l *lab) image(version string) {
	for _, name := range []string{"margay", "portmap", "loopback"} {
		l.write(filepath.Join(l.Source, name), name+" "+version)
	}
}

func (l *lab) write(path, text string) {
	l.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		l.Fatal(err)
	}
}

// start is a fresh agent's Installer.
func (l *lab) start() *Installer {
	return New(l.Config, slog.New(slog.NewTextHandler(l.Output(), nil)))
}

// must ends the test on an error.
func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// has checks what a folder holds: file names and texts, "" for a file that must not be there.
func (l *lab) has(dir string, want map[string]string) {
	l.Helper()
	for name, text := range want {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if text == "" && err == nil {
			l.Errorf("%s is there: %q", name, b)
		}
		if text != "" && string(b) != text {
			l.Errorf("%s: %q, %v; want %q", name, b, err, text)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		l.Errorf("left behind: %v, %v", left, err)
	}
}

// stamps returns the inodes and times of all files, to tell whether anything was written.
func (l *lab) stamps(dirs ...string) map[string]stamp {
	out := map[string]stamp{}
	for _, dir := range dirs {
		l.must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			out[path] = look(path)
			return err
		}))
	}
	return out
}

func (l *lab) unchanged(before map[string]stamp, dirs ...string) {
	l.Helper()
	after := l.stamps(dirs...)
	for path, s := range after {
		if !s.same(before[path]) {
			l.Errorf("%s was written", path)
		}
	}
	if len(after) != len(before) {
		l.Errorf("%d files, were %d", len(after), len(before))
	}
}

func TestPlugins(t *testing.T) {
	l := newLab(t)
	l.write(filepath.Join(l.BinDir, "portmap"), "portmap of a package")
	l.write(filepath.Join(l.BinDir, "bridge"), "not in the image")
	l.must(l.start().Plugins())
	want := map[string]string{
		"margay": "margay v1", "portmap": "portmap v1", "loopback": "loopback v1", "bridge": "not in the image",
		"portmap" + backupSuffix: "portmap of a package", "margay" + backupSuffix: "", "loopback" + backupSuffix: "",
	}
	l.has(l.BinDir, want)
	for _, name := range []string{"margay", "portmap"} {
		if st, err := os.Stat(filepath.Join(l.BinDir, name)); err != nil || st.Mode() != 0o755 {
			t.Errorf("mode of %s: %v, %v", name, st.Mode(), err)
		}
	}

	before := l.stamps(l.BinDir, filepath.Dir(l.Record))
	l.must(l.start().Plugins())
	l.unchanged(before, l.BinDir, filepath.Dir(l.Record))

	// A new image: what there is now was ours, and is no foreign plugin to keep.
	l.image("v2")
	l.must(l.start().Plugins())
	want["margay"], want["portmap"], want["loopback"] = "margay v2", "portmap v2", "loopback v2"
	l.has(l.BinDir, want)

	// The package is updated: its plugin is the one to keep now.
	l.write(filepath.Join(l.BinDir, "portmap"), "portmap of a newer package")
	l.must(l.start().Plugins())
	want["portmap"+backupSuffix] = "portmap of a newer package"
	l.has(l.BinDir, want)

	// Only the mode is wrong.
	l.must(os.Chmod(filepath.Join(l.BinDir, "margay"), 0o600))
	l.must(l.start().Plugins())
	if st, _ := os.Stat(filepath.Join(l.BinDir, "margay")); st.Mode() != 0o755 {
		t.Errorf("mode of margay: %v", st.Mode())
	}
	l.has(l.BinDir, want)
}

func TestPluginsKeepAndSkip(t *testing.T) {
	l := newLab(t)
	l.KeepPresent, l.Skip = true, []string{"loopback"}
	l.write(filepath.Join(l.BinDir, "margay"), "old")
	l.write(filepath.Join(l.BinDir, "portmap"), "old")
	l.must(l.start().Plugins())
	l.has(l.BinDir, map[string]string{"margay": "margay v1", "portmap": "old", "loopback": "", "portmap" + backupSuffix: ""})
	l.BinDir = ""
	l.must(l.start().Plugins())
}

// TestPluginsKilled leaves what an agent leaves that ends while it writes.
func TestPluginsKilled(t *testing.T) {
	l := newLab(t)
	l.write(filepath.Join(l.BinDir, "portmap"), "foreign")
	l.write(temp(filepath.Join(l.BinDir, "margay")), "hal")
	// Ended after the record and the backup, before the file.
	rec, err := readRecord(l.Record)
	l.must(err)
	want, err := sum(filepath.Join(l.Source, "portmap"))
	l.must(err)
	l.must(setBeside(filepath.Join(l.BinDir, "portmap")))
	l.must(rec.put(l.Record, "portmap", want))
	l.must(l.start().Plugins())
	l.has(l.BinDir, map[string]string{"margay": "margay v1", "portmap": "portmap v1", "portmap" + backupSuffix: "foreign"})
}

func TestPluginsAudit(t *testing.T) {
	l := newLab(t)
	i := l.start()
	l.must(i.Plugins())
	before := l.stamps(l.BinDir)
	audit := func() {
		t.Helper()
		l.must(i.Audit(context.Background(), "node1", 1450))
	}
	audit()
	l.unchanged(before, l.BinDir)
	l.must(os.Remove(filepath.Join(l.BinDir, "loopback")))
	l.write(filepath.Join(l.BinDir, "margay"), "broken")
	l.write(filepath.Join(l.BinDir, "portmap"), "updated by a package")
	audit()
	want := map[string]string{"margay": "margay v1", "loopback": "loopback v1", "portmap": "updated by a package", "portmap" + backupSuffix: ""}
	l.has(l.BinDir, want)
	audit()
	l.has(l.BinDir, want)
	l.must(l.start().Plugins()) // the next agent
	l.has(l.BinDir, map[string]string{"portmap": "portmap v1", "portmap" + backupSuffix: "updated by a package"})
}

// TestFaultyFolders wants errors that say which file is the matter, and files that are whole.
func TestFaultyFolders(t *testing.T) {
	steps := map[string]func(*Installer) error{
		"plugins":  (*Installer).Plugins,
		"conflist": func(i *Installer) error { return i.Conflist("node1", 1450) },
	}
	dir := func(l *lab, step string) (string, string) {
		if step == "plugins" {
			return l.BinDir, "margay"
		}
		return l.NetDir, DefaultConfName
	}
	for step, run := range steps {
		fails := func(t *testing.T, l *lab, words ...string) {
			t.Helper()
			err := run(l.start())
			for _, w := range words {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("error %v, want %q in it", err, w)
				}
			}
		}
		t.Run(step+"/missing", func(t *testing.T) {
			l := newLab(t)
			d, name := dir(l, step)
			l.must(os.Remove(d))
			fails(t, l, name, "no such file or directory")
		})
		t.Run(step+"/folder in place", func(t *testing.T) {
			l := newLab(t)
			d, name := dir(l, step)
			l.must(os.MkdirAll(filepath.Join(d, name, "x"), 0o755))
			fails(t, l, filepath.Join(d, name), "is a folder; remove it")
		})
		t.Run(step+"/link to nowhere", func(t *testing.T) {
			l := newLab(t)
			d, name := dir(l, step)
			l.must(os.Symlink("/nowhere/x", filepath.Join(d, name)))
			l.must(run(l.start()))
			if st, err := os.Lstat(filepath.Join(d, name)); err != nil || !st.Mode().IsRegular() {
				t.Errorf("%v, %v", st, err)
			}
		})
		t.Run(step+"/read-only", func(t *testing.T) {
			l := newLab(t)
			d, name := dir(l, step)
			remount := mount(t, d)
			remount(unix.MS_RDONLY, "")
			fails(t, l, name, "read-only file system")
			remount(0, "")
			l.must(run(l.start()))
			remount(unix.MS_RDONLY, "")
			l.must(run(l.start())) // nothing has to be written
		})
		t.Run(step+"/full", func(t *testing.T) {
			l := newLab(t)
			d, name := dir(l, step)
			remount := mount(t, d)
			remount(0, "size=64k")
			l.write(filepath.Join(l.Source, "margay"), strings.Repeat("x", 1<<20))
			l.Conf = `{"name":"n","plugins":[{"type":"margay","pad":"` + strings.Repeat("x", 1<<20) + `"}]}`
			fails(t, l, name, "no space left on device")
			l.has(d, map[string]string{name: ""})
			remount(0, "size=8m")
			l.must(run(l.start()))
		})
	}
}

// mount puts a tmpfs on a folder and returns how to mount it again.
func mount(t *testing.T, dir string) (remount func(flags uintptr, data string)) {
	t.Helper()
	nstest.Root(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return func(flags uintptr, data string) {
		t.Helper()
		if err := unix.Mount("tmpfs", dir, "tmpfs", flags|unix.MS_REMOUNT, data); err != nil {
			t.Fatal(err)
		}
	}
}
