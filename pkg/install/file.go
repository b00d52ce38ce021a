package install

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// tempSuffix ends the name of a file that is being written. The name is always the same, so that what a killed agent left
// is overwritten; there is one agent at a time.
const tempSuffix = ".margay-new"

// temp is where the file is written before it is renamed: in the same folder, and hidden.
func temp(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+tempSuffix)
}

// replaceFile puts a file in place by rename. After a failure nothing has changed.
func replaceFile(path string, content io.Reader, mode os.FileMode) error {
	if st, err := os.Lstat(path); err == nil && st.IsDir() {
		return fmt.Errorf("write %s: it is a folder; remove it", path)
	}
	tmp := temp(path)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}

// putText puts a small file in place unless it is there just so; it tells whether it had to.
func putText(path, text string, mode os.FileMode) (changed bool, err error) {
	old, err := os.ReadFile(path)
	if err == nil && string(old) == text {
		if st, err := os.Stat(path); err == nil && st.Mode().Perm() == mode {
			return false, nil
		}
	}
	return true, replaceFile(path, bytes.NewReader([]byte(text)), mode)
}

// sum returns the SHA-256 sum of a file in hexadecimal; "" when there is none.
func sum(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// exists says whether something is there.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// remove removes a file; it tells whether there was one.
func remove(path string) (bool, error) {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
