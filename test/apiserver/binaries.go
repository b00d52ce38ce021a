package apiserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// binaries finds the directory that holds etcd and kube-apiserver.
func binaries() (string, error) {
	dir := os.Getenv("MARGAY_KUBE_BIN")
	if dir == "" {
		var err error
		if dir, err = cached(); err != nil {
			return "", err
		}
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("find %s: %w: build it with \"test/kube/build kube etcd\" (about ten minutes, once), "+
				"or set MARGAY_KUBE_BIN to a directory that has it", name, err)
		}
	}
	return dir, nil
}

// cached asks the cluster scripts where they keep the programs of this source.
func cached() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("bash", "-c", `. lib/settings.sh && echo "$BIN"`)
	cmd.Dir, cmd.Stderr = filepath.Join(root, "test", "kube"), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("run test/kube/lib/settings.sh: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Root is the repository's top directory: the nearest one above the working directory that has test/kube.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "test", "kube", "lib", "settings.sh")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("find repository: no directory above has test/kube/lib/settings.sh")
}
