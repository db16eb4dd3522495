package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"testing"
)

func read(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err == nil {
			out[head.Name], err = io.ReadAll(r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestImage: the same bytes twice; each digest is that of its blob, from the index down to the
// program in the layer.
func TestImage(t *testing.T) {
	program := bytes.Repeat([]byte("program "), 1000)
	image, err := Image(program, "amd64", "v1")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Image(program, "amd64", "v1"); err != nil || !bytes.Equal(image, again) {
		t.Errorf("twice is not the same: %v", err)
	}
	files := read(t, image)
	blob := func(d descriptor) []byte {
		t.Helper()
		b := files["blobs/sha256/"+d.Digest[len("sha256:"):]]
		if digest(b) != d.Digest || len(b) != d.Size {
			t.Fatalf("%s: %d bytes of %d, %s", d.MediaType, len(b), d.Size, digest(b))
		}
		return b
	}
	var index struct{ Manifests []descriptor }
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	var config struct {
		Config struct{ Entrypoint []string }
		Rootfs struct {
			Diffs []string `json:"diff_ids"`
		}
	}
	for _, step := range []struct {
		raw  func() []byte
		into any
	}{
		{func() []byte { return files["index.json"] }, &index}, {func() []byte { return blob(index.Manifests[0]) }, &manifest}, {func() []byte { return blob(manifest.Config) }, &config},
	} {
		if err := json.Unmarshal(step.raw(), step.into); err != nil {
			t.Fatal(err)
		}
	}
	z, err := gzip.NewReader(bytes.NewReader(blob(manifest.Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	layer, err := io.ReadAll(z)
	if err != nil || digest(layer) != config.Rootfs.Diffs[0] {
		t.Fatalf("%v, the layer is %s, the configuration says %s", err, digest(layer), config.Rootfs.Diffs)
	}
	if got := read(t, layer)["usr/bin/havip-cluster"]; !bytes.Equal(got, program) || config.Config.Entrypoint[0] != "/usr/bin/havip-cluster" {
		t.Errorf("%d bytes of program, %q", len(got), config.Config.Entrypoint)
	}
}
