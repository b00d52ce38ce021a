// Package archive writes what diagnostics collect into one compressed tar file, without what looks like a secret.
package archive

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Archive is a tar file that is compressed. The first error stays, and Close returns it.
type Archive struct {
	file *os.File
	zip  *gzip.Writer
	tar  *tar.Writer
	err  error
}

// Create makes an archive that only its owner may read.
func Create(name string) (*Archive, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	z := gzip.NewWriter(f)
	return &Archive{file: f, zip: z, tar: tar.NewWriter(z)}, nil
}

// Add adds a file to the folder diagnostics, without what looks like a secret.
func (a *Archive) Add(name string, content []byte) {
	content = blank(content)
	head := &tar.Header{Name: filepath.Join("diagnostics", name), Mode: 0o600, Size: int64(len(content)), ModTime: time.Now()}
	if a.err == nil {
		a.err = a.tar.WriteHeader(head)
	}
	if a.err == nil {
		_, a.err = a.tar.Write(content)
	}
}

// Close ends the archive.
func (a *Archive) Close() error {
	return errors.Join(a.err, a.tar.Close(), a.zip.Close(), a.file.Close())
}

// Secret says whether a file is made to hold secrets.
func Secret(path string) bool {
	name := strings.ToLower(filepath.Base(path))
	for _, part := range []string{"kubeconfig", "token", "secret", ".key", ".pem", ".crt", "password"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

const secretWord = `(?:token|password|passwd|secret|private[-_]?key|client-key-data|psk)`

var (
	secretValue = regexp.MustCompile(`(?i)(\\?"?[a-z0-9_.-]*` + secretWord + `[a-z0-9_.-]*\\?"?\s*[:=]\s*)(\\"[^"\n]*\\"|"[^"\n]*"|[^\n,}]+)`)
	// An entry of a container's environment, in YAML and JSON.
	secretEntry = regexp.MustCompile(`(?i)(name\\?"?:\s*\\?"?[a-z0-9_.-]*` + secretWord + `[a-z0-9_.-]*\\?"?,?\s*\\?"?value\\?"?:\s*)(\\"[^"\n]*\\"|"[^"\n]*"|[^\n,}]+)`)
	bearer      = regexp.MustCompile(`(?i)(bearer\s+)[a-z0-9._~+/=-]{8,}`)
	keyBlock    = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`)
)

// blank takes the values of what looks like a secret out.
func blank(b []byte) []byte {
	b = keyBlock.ReplaceAll(b, []byte("(left out)"))
	b = bearer.ReplaceAll(b, []byte("${1}(left out)"))
	b = secretEntry.ReplaceAll(b, []byte("${1}(left out)"))
	return secretValue.ReplaceAll(b, []byte("${1}(left out)"))
}

// Note is what an archive has in place of something that could not be had; nothing without an error.
func Note(err error) []byte {
	if err == nil {
		return nil
	}
	return []byte("NOT COLLECTED: " + err.Error() + "\n")
}
