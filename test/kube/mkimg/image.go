package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Media types of the OCI image specification, v1.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

var epoch = time.Unix(0, 0).UTC()

// image is what goes beside the files: the names it gets, and how it runs.
type image struct {
	Names  []string
	Config config
}

// config is the "config" object of an OCI image configuration.
type config struct {
	User       string            `json:",omitempty"`
	Env        []string          `json:",omitempty"`
	Entrypoint []string          `json:",omitempty"`
	Cmd        []string          `json:",omitempty"`
	WorkingDir string            `json:",omitempty"`
	Labels     map[string]string `json:",omitempty"`
}

// descriptor points to a blob, as in the OCI image specification.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    map[string]string `json:"platform,omitempty"`
}

// write makes the image of the directory root and leaves it at path, whole or
// not at all.
func (img image) write(path, root string) error {
	dir := filepath.Dir(path)
	layer, err := os.CreateTemp(dir, ".layer-*")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	digest, size, err := writeLayer(layer, root)
	if err != nil {
		return fmt.Errorf("read %s: %w", root, err)
	}

	out, err := os.CreateTemp(dir, ".image-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := img.pack(out, layer, descriptor{MediaType: typeLayer, Digest: digest, Size: size}); err != nil {
		return err
	}
	if err := out.Chmod(0o644); err != nil {
		return err
	}
	return os.Rename(out.Name(), path)
}

// pack writes the image layout: the layer, the configuration and manifest that
// lead to it, and an index with one entry for each name.
func (img image) pack(w io.Writer, layer io.Reader, d descriptor) error {
	platform := map[string]string{"architecture": runtime.GOARCH, "os": "linux"}
	conf, configDesc := blob(typeConfig, map[string]any{
		"created": epoch.Format(time.RFC3339), "architecture": runtime.GOARCH, "os": "linux",
		"config": img.Config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{d.Digest}},
	})
	manifest, manifestDesc := blob(typeManifest, map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest,
		"config": configDesc, "layers": []descriptor{d},
	})
	var entries []descriptor
	for _, name := range img.Names {
		e := manifestDesc
		e.Platform = platform
		e.Annotations = map[string]string{
			"io.containerd.image.name":          name,
			"org.opencontainers.image.ref.name": name[strings.LastIndex(name, ":")+1:],
		}
		entries = append(entries, e)
	}
	index, _ := blob(typeIndex, map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": entries})

	tw := tar.NewWriter(w)
	put := func(name string, size int64, r io.Reader) error {
		h := &tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: epoch}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.Copy(tw, r)
		return err
	}
	file := func(name string, b []byte) error { return put(name, int64(len(b)), strings.NewReader(string(b))) }
	steps := []func() error{
		func() error { return file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)) },
		func() error { return put(blobPath(d), d.Size, layer) },
		func() error { return file(blobPath(configDesc), conf) },
		func() error { return file(blobPath(manifestDesc), manifest) },
		func() error { return file("index.json", index) },
		tw.Close,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// blob encodes v and describes the result.
func blob(mediaType string, v any) ([]byte, descriptor) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only maps, lists and strings are encoded here
	}
	return b, descriptor{MediaType: mediaType, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(b)), Size: int64(len(b))}
}

func blobPath(d descriptor) string {
	return "blobs/sha256/" + strings.TrimPrefix(d.Digest, "sha256:")
}
