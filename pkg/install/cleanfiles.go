package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// conflist removes our configuration and puts those back that had made room.
func (c *Cleaner) conflist() error {
	names, err := confFiles(c.NetDir)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		path := filepath.Join(c.NetDir, name)
		switch typ, _ := firstPlugin(path); {
		case typ != plugin:
		case name == c.ConfName:
			errs = append(errs, c.removed(path))
		default:
			c.say("left CNI configuration " + name + ": it calls margay, but the agent did not write it")
		}
	}
	_, _ = remove(temp(filepath.Join(c.NetDir, c.ConfName)))
	return errors.Join(append(errs, c.putBack(c.NetDir))...)
}

// putBack gives foreign files their names back.
func (c *Cleaner) putBack(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list backups: %w", err)
	}
	var errs []error
	for _, f := range files {
		name, is := strings.CutSuffix(f.Name(), backupSuffix)
		if !is || name == "" {
			continue
		}
		path := filepath.Join(dir, name)
		if exists(path) {
			c.say("left " + path + backupSuffix + ": there is a newer " + name)
			continue
		}
		if err := os.Rename(path+backupSuffix, path); err != nil {
			errs = append(errs, fmt.Errorf("put back: %w", err))
			continue
		}
		c.say("put back " + path)
	}
	return errors.Join(errs...)
}

// plugins removes those that are ours, by the record or by being the image's, and puts back what they replaced.
func (c *Cleaner) plugins() error {
	rec, err := readRecord(c.Record)
	if err != nil {
		return err
	}
	var errs []error
	names, err := c.Config.plugins()
	if err != nil && !errors.Is(err, os.ErrNotExist) { // the record is enough
		errs = append(errs, err)
	}
	for name := range rec {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		path := filepath.Join(c.BinDir, name)
		have, err := sum(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("look at plugin %s: %w", name, err))
			continue
		}
		image, _ := sum(filepath.Join(c.Source, name))
		switch {
		case have == "":
		case have == image || have == rec[name]:
			errs = append(errs, c.removed(path))
		case rec[name] != "":
			c.say("left plugin " + name + ": somebody has changed it since")
		}
		_, _ = remove(temp(path))
	}
	return errors.Join(append(errs, c.putBack(c.BinDir))...)
}

// managers removes the network managers' files and has them read that.
func (c *Cleaner) managers(ctx context.Context) error {
	var errs []error
	for _, m := range managers() {
		were := false
		for name := range m.files {
			path := filepath.Join(c.RunDir, name)
			if !exists(path) {
				continue
			}
			were = true
			errs = append(errs, c.removed(path))
		}
		if !were {
			continue
		}
		if err := reload(ctx, c.RunDir, m.reload); err != nil && !errors.Is(err, errNotRunning) {
			c.say(m.name + " reads that when it starts next; it can't be asked to now: " + err.Error())
		}
	}
	return errors.Join(errs...)
}

// state removes journal, spool, record and socket, and the folders if nothing else is in them.
func (c *Cleaner) state() error {
	var errs []error
	record := func(name string) bool {
		return slices.Contains([]string{".json", ".tmp", ".new", ".damaged"}, filepath.Ext(name))
	}
	for _, s := range []struct {
		dir string
		is  func(name string) bool // ours
	}{
		{c.Spool, record},
		{filepath.Join(c.Journal, "foreign"), record}, // addresses that pods brought along
		{c.Journal, func(name string) bool { return name == "lock" || strings.HasPrefix(name, "journal") }},
	} {
		dir, is := s.dir, s.is
		files, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		errs = append(errs, err)
		for _, f := range files {
			if is(f.Name()) {
				_, err := remove(filepath.Join(dir, f.Name()))
				errs = append(errs, err)
			}
		}
		if os.Remove(dir) == nil {
			c.say("removed " + dir)
		}
	}
	for _, path := range []string{c.Socket, c.Record} {
		if exists(path) {
			errs = append(errs, c.removed(path))
		}
		_, _ = remove(temp(path))
	}
	for _, path := range []string{c.Socket, c.Record, c.Journal, c.Spool} {
		_ = os.Remove(filepath.Dir(path)) // unless something else is in it, or it is a mount
	}
	return errors.Join(errs...)
}

// removed removes a file and says so.
func (c *Cleaner) removed(path string) error {
	was, err := remove(path)
	if was {
		c.say("removed " + path)
	}
	return err
}
