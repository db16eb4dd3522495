// Command oci writes an OCI image of one static binary, as a tar of an image layout, without a daemon.
// The same binary gives the same bytes: nothing in it has a time.
//
//	go run ./packaging/oci -binary bin/havip-cluster -arch amd64 -version v1 -out bin/havip-cluster.oci.tar
//	skopeo copy oci-archive:bin/havip-cluster.oci.tar containers-storage:havip-cluster:v1
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
)

// Media types of the OCI image specification 1.0.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    map[string]string `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func main() {
	binary := flag.String("binary", "", "static program that the image holds")
	arch := flag.String("arch", "amd64", "its GOARCH")
	version := flag.String("version", "dev", "tag of the image")
	out := flag.String("out", "", "file to write")
	flag.Parse()
	program, err := os.ReadFile(*binary)
	if err == nil {
		var image []byte
		if image, err = Image(program, *arch, *version); err == nil {
			err = os.WriteFile(*out, image, 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "oci:", err)
		os.Exit(1)
	}
}

// Image is the tar of an image layout with one image: the program alone, which is its entry point.
func Image(program []byte, arch, version string) ([]byte, error) {
	layer, err := archive([]file{
		{name: "usr/", dir: true}, {name: "usr/bin/", dir: true}, {name: "usr/bin/havip-cluster", mode: 0o755, data: program},
		{name: "var/", dir: true}, {name: "var/lib/", dir: true}, {name: "var/lib/havip-cluster/", dir: true, mode: 0o700}, {name: "tmp/", dir: true, mode: 0o1777},
	})
	if err != nil {
		return nil, err
	}
	packed, err := compressed(layer)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": arch, "os": "linux",
		"config": map[string]any{
			"Entrypoint": []string{"/usr/bin/havip-cluster"}, "Cmd": []string{"agent"}, "Env": []string{"PATH=/usr/bin"}, "StopSignal": "SIGTERM",
			"Volumes": map[string]any{"/var/lib/havip-cluster": map[string]any{}},
			"Labels":  map[string]string{"org.opencontainers.image.title": "havip-cluster", "org.opencontainers.image.version": version, "org.opencontainers.image.licenses": "Apache-2.0"},
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest, "config": describe(typeConfig, config), "layers": []descriptor{describe(typeLayer, packed)},
	})
	if err != nil {
		return nil, err
	}
	entry := describe(typeManifest, manifest)
	entry.Platform = map[string]string{"architecture": arch, "os": "linux"}
	entry.Annotations = map[string]string{"org.opencontainers.image.ref.name": version}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []descriptor{entry}})
	if err != nil {
		return nil, err
	}
	files := []file{{name: "oci-layout", mode: 0o644, data: []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {name: "index.json", mode: 0o644, data: index}, {name: "blobs/", dir: true}, {name: "blobs/sha256/", dir: true}}
	for _, blob := range [][]byte{manifest, config, packed} {
		files = append(files, file{name: "blobs/sha256/" + digest(blob)[len("sha256:"):], mode: 0o644, data: blob})
	}
	return archive(files)
}

func describe(mediaType string, blob []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: digest(blob), Size: len(blob)}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

type file struct {
	name string
	dir  bool
	mode int64
	data []byte
}

// archive is a tar without times and owners.
func archive(files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		head := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if f.dir {
			head.Typeflag = tar.TypeDir
			if f.mode == 0 {
				head.Mode = 0o755
			}
		}
		if err := w.WriteHeader(head); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func compressed(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
