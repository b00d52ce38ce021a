package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// stamp tells a file that nobody has touched since from one that somebody has.
type stamp struct {
	info    fs.FileInfo // nil: there is none
	size    int64
	changed time.Time
}

func look(path string) stamp {
	info, err := os.Lstat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info, info.Size(), info.ModTime()}
}

func (s stamp) same(o stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == nil && o.info == nil
	}
	return os.SameFile(s.info, o.info) && s.size == o.size && s.changed.Equal(o.changed)
}

// Plugins installs the image's plugins on the node.
func (i *Installer) Plugins() error {
	if i.config.BinDir == "" {
		return nil
	}
	i.work.Lock()
	defer i.work.Unlock()
	names, err := i.config.plugins()
	if err != nil {
		return err
	}
	rec, err := readRecord(i.config.Record)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := i.putPlugin(name, rec); err != nil {
			return fmt.Errorf("install plugin %s: %w", name, err)
		}
	}
	return nil
}

// mendPlugins puts plugins back that somebody removed, and margay if somebody changed it. Another one that has changed is
// somebody's update, and stays until the next start.
func (i *Installer) mendPlugins() error {
	if i.config.BinDir == "" {
		return nil
	}
	i.work.Lock()
	defer i.work.Unlock()
	var errs []error
	for name, was := range i.seen {
		now := look(filepath.Join(i.config.BinDir, name))
		if now.same(was) {
			continue
		}
		if now.info != nil && name != plugin {
			i.seen[name] = now
			continue
		}
		i.log.Warn("somebody removed or changed a plugin; it is installed again", "plugin", name)
		rec, err := readRecord(i.config.Record)
		if err == nil {
			err = i.putPlugin(name, rec)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("install plugin %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// plugins lists what is to be installed.
func (c Config) plugins() ([]string, error) {
	files, err := os.ReadDir(c.Source)
	if err != nil {
		return nil, fmt.Errorf("list the image's plugins: %w", err)
	}
	var names []string
	for _, f := range files {
		if !slices.Contains(c.Skip, f.Name()) {
			names = append(names, f.Name())
		}
	}
	return names, nil
}

// putPlugin installs one plugin unless it is there just so.
func (i *Installer) putPlugin(name string, rec record) (err error) {
	from, to := filepath.Join(i.config.Source, name), filepath.Join(i.config.BinDir, name)
	if i.sums[name] == "" {
		if i.sums[name], err = sum(from); err != nil {
			return err
		}
	}
	old := look(to)
	if old.info != nil && old.info.IsDir() {
		return fmt.Errorf("%s is a folder; remove it", to)
	}
	have, err := sum(to) // of a link: what it leads to
	if err != nil {
		return err
	}
	want := i.sums[name]
	right := false
	if have == want {
		st, err := os.Stat(to)
		right = err == nil && st.Mode().Perm() == 0o755
	}
	if !right && old.info != nil && i.config.KeepPresent && name != plugin {
		return nil
	}
	if !right && old.info != nil && name != plugin && have != want && have != rec[name] {
		if err := setBeside(to); err != nil {
			return fmt.Errorf("keep the one that is there: %w", err)
		}
		i.log.Info("plugin of somebody else is kept beside ours", "plugin", name, "as", name+backupSuffix)
	}
	// The record first: should the agent end in between, the file there is foreign, which it is.
	if err := rec.put(i.config.Record, name, want); err != nil {
		if !right {
			return fmt.Errorf("note it as ours: %w", err)
		}
		i.log.Warn("plugin is not noted as ours; clean-up may leave it", "plugin", name, "err", err)
	}
	if !right {
		f, err := os.Open(from)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := replaceFile(to, f, 0o755); err != nil {
			return err
		}
	}
	i.seen[name] = look(to)
	return nil
}

// setBeside gives a file a second name, under which it stays when the first is replaced: there is no moment without it.
// A backup from before gives way, since this file has come after it.
func setBeside(path string) error {
	if _, err := remove(path + backupSuffix); err != nil {
		return err
	}
	return os.Link(path, path+backupSuffix)
}

// record says which plugins we installed: sums by name.
type record map[string]string

func readRecord(path string) (record, error) {
	rec := record{}
	if path == "" {
		return rec, nil
	}
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the record of plugins: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 { // what else there may be was not written by us
			rec[f[1]] = f[0]
		}
	}
	return rec, nil
}

// put notes one plugin, on disk too.
func (r record) put(path, name, sum string) error {
	if r[name] == sum || path == "" {
		return nil
	}
	r[name] = sum
	var names []string
	for n := range r {
		names = append(names, n)
	}
	slices.Sort(names)
	var text strings.Builder
	for _, n := range names {
		fmt.Fprintf(&text, "%s  %s\n", r[n], n)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	_, err := putText(path, text.String(), 0o644)
	return err
}
