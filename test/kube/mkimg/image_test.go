package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// tree makes a small root file system whose files carry the time given.
func tree(t *testing.T, at time.Time) string {
	t.Helper()
	root := t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(root, "bin"), 0o755),
		os.WriteFile(filepath.Join(root, "bin/a"), []byte("a"), 0o755),
		os.Link(filepath.Join(root, "bin/a"), filepath.Join(root, "bin/b")),
		os.Symlink("a", filepath.Join(root, "bin/c")),
		os.Chtimes(filepath.Join(root, "bin/a"), at, at),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// files returns the contents of a tar by name, links as "-> target".
func files(t *testing.T, b []byte) map[string]string {
	t.Helper()
	got := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if got[h.Name] = string(c); h.Linkname != "" {
			got[h.Name] = "-> " + h.Linkname
		}
	}
}

func TestImage(t *testing.T) {
	img := image{Names: []string{"kube.test/x:1", "kube.test/x:2"}, Config: config{Entrypoint: []string{"/bin/a"}}}
	var made [][]byte
	for _, at := range []time.Time{time.Unix(1e9, 0), time.Now()} {
		out := filepath.Join(t.TempDir(), "x.tar")
		if err := img.write(out, tree(t, at)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, b)
	}
	if !bytes.Equal(made[0], made[1]) {
		t.Error("the same tree at another time gave another image")
	}

	layout := files(t, made[0])
	var index struct{ Manifests []descriptor }
	if err := json.Unmarshal([]byte(layout["index.json"]), &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 2 || index.Manifests[1].Annotations["io.containerd.image.name"] != "kube.test/x:2" {
		t.Fatalf("index: %+v", index)
	}
	var manifest struct{ Layers []descriptor }
	if err := json.Unmarshal([]byte(layout[blobPath(index.Manifests[0])]), &manifest); err != nil {
		t.Fatal(err)
	}
	layer := layout[blobPath(manifest.Layers[0])]
	if int64(len(layer)) != manifest.Layers[0].Size {
		t.Errorf("layer has %d bytes, manifest says %d", len(layer), manifest.Layers[0].Size)
	}
	got := files(t, []byte(layer))
	for name, want := range map[string]string{"bin/": "", "bin/a": "a", "bin/b": "-> bin/a", "bin/c": "-> a"} {
		if g, ok := got[name]; !ok || g != want {
			t.Errorf("%s is %q, want %q", name, g, want)
		}
	}
}
