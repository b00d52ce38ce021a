package main

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// writeLayer writes the tree under root as a tar in which only names, modes
// and contents count, and returns its digest and size.
func writeLayer(w io.Writer, root string) (digest string, size int64, err error) {
	sum := sha256.New()
	count := &counter{}
	tw := tar.NewWriter(io.MultiWriter(w, sum, count))
	l := layerWriter{tar: tw, root: root, first: map[uint64]string{}}
	if err := filepath.WalkDir(root, l.add); err != nil { // in lexical order
		return "", 0, err
	}
	if err := tw.Close(); err != nil {
		return "", 0, err
	}
	return fmt.Sprintf("sha256:%x", sum.Sum(nil)), count.n, nil
}

type layerWriter struct {
	tar   *tar.Writer
	root  string
	first map[uint64]string // inode of a file with several names: the name it was written under
}

func (l *layerWriter) add(path string, entry fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	name, err := filepath.Rel(l.root, path)
	if err != nil || name == "." {
		return err
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	h, err := header(path, name, info)
	if err != nil {
		return err
	}
	if st := info.Sys().(*syscall.Stat_t); info.Mode().IsRegular() && st.Nlink > 1 {
		if other, ok := l.first[st.Ino]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, other, 0
		} else {
			l.first[st.Ino] = name
		}
	}
	if err := l.tar.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(l.tar, f)
	return err
}

// header describes one entry: no times, no owner but root.
func header(path, name string, info fs.FileInfo) (*tar.Header, error) {
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return nil, err
	}
	h.Name = name
	if info.IsDir() {
		h.Name += "/"
	}
	h.ModTime, h.AccessTime, h.ChangeTime = epoch, time.Time{}, time.Time{}
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
	return h, nil
}

// counter counts what is written to it.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
