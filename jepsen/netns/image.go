package netns

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"golang.org/x/sys/unix"
)

// imageData is where the program in the image has its data directory.
const imageData = "/var/lib/havip-cluster"

// Image is an unpacked OCI image, and the service of a compose file that says how it is run.
type Image struct {
	Root       string // folder with its files
	Entrypoint []string
	Command    []string
	Env        []string
	Service    Service
	// Folders of the machine that the containers see as well, read-only: programs that hooks need.
	Folders []string
}

// Service is what a compose file says of one: as much as there is in docs/deploy/compose.yaml.
type Service struct {
	Command      []string       `yaml:"command"`
	NetworkMode  string         `yaml:"network_mode"`
	ReadOnly     bool           `yaml:"read_only"`
	CapDrop      []string       `yaml:"cap_drop"`
	CapAdd       []string       `yaml:"cap_add"`
	SecurityOpt  []string       `yaml:"security_opt"`
	Ulimits      map[string]int `yaml:"ulimits"`
	OOMScore     int            `yaml:"oom_score_adj"`
	Volumes      []string       `yaml:"volumes"`
	Image        string         `yaml:"image"`
	Name         string         `yaml:"container_name"`
	Restart      string         `yaml:"restart"`
	GraceOfAStop string         `yaml:"stop_grace_period"`
}

// ReadImage unpacks the one image of an OCI archive into a folder, and reads the one service of a compose file. Settings
// of the service that would have to be rebuilt here and are not known are an error.
func ReadImage(archive, compose, dir string) (*Image, error) {
	text, err := os.ReadFile(compose)
	if err != nil {
		return nil, fmt.Errorf("netns: image: %w", err)
	}
	var file struct {
		Services map[string]Service `yaml:"services"`
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil || len(file.Services) != 1 {
		return nil, fmt.Errorf("netns: %s: %d services: %w", compose, len(file.Services), err)
	}
	image := &Image{Root: dir}
	for _, image.Service = range file.Services {
	}
	raw, err := os.ReadFile(archive)
	if err != nil {
		return nil, fmt.Errorf("netns: image: %w", err)
	}
	blobs := map[string][]byte{}
	if err := untar(bytes.NewReader(raw), func(h *tar.Header, data []byte) error { blobs[h.Name] = data; return nil }); err != nil {
		return nil, fmt.Errorf("netns: %s: %w", archive, err)
	}
	if err := image.unpack(blobs); err != nil {
		return nil, fmt.Errorf("netns: %s: %w", archive, err)
	}
	return image, nil
}

// unpack follows an image layout from its index down to the files (OCI image specification 1.0).
func (m *Image) unpack(blobs map[string][]byte) error {
	type descriptor struct{ Digest string }
	var index struct{ Manifests []descriptor }
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	var config struct {
		Config struct{ Entrypoint, Cmd, Env []string }
	}
	blob := func(d descriptor) []byte { return blobs["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")] }
	if err := json.Unmarshal(blobs["index.json"], &index); err != nil || len(index.Manifests) != 1 {
		return fmt.Errorf("index with %d images: %w", len(index.Manifests), err)
	}
	if err := json.Unmarshal(blob(index.Manifests[0]), &manifest); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if err := json.Unmarshal(blob(manifest.Config), &config); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	m.Entrypoint, m.Command, m.Env = config.Config.Entrypoint, config.Config.Cmd, config.Config.Env
	for _, layer := range manifest.Layers {
		z, err := gzip.NewReader(bytes.NewReader(blob(layer)))
		if err == nil {
			err = untar(z, m.write)
		}
		if err != nil {
			return fmt.Errorf("layer: %w", err)
		}
	}
	return nil
}

func (m *Image) write(h *tar.Header, data []byte) error {
	path := filepath.Join(m.Root, filepath.FromSlash(h.Name))
	if h.Typeflag == tar.TypeDir {
		return os.MkdirAll(path, h.FileInfo().Mode().Perm())
	}
	return os.WriteFile(path, data, h.FileInfo().Mode().Perm())
}

func untar(from io.Reader, each func(*tar.Header, []byte) error) error {
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var data []byte
		if err == nil {
			data, err = io.ReadAll(r)
		}
		if err == nil {
			err = each(h, data)
		}
		if err != nil {
			return err
		}
	}
}

// container is what an engine makes of the service, as the OCI runtime specification has it: the image's files and
// program, processes of its own, the network of a host, one folder of the machine. Not rebuilt: the engine's filter of
// system calls, which follows the capabilities, and its control groups.
func (m *Image) container(data, network string, args []string) (object, error) {
	s := m.Service
	if s.NetworkMode != "host" || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.Volumes, []string{imageData + ":" + imageData}) {
		return nil, fmt.Errorf("netns: image: network %q, capabilities dropped %q, volumes %q: this is not rebuilt", s.NetworkMode, s.CapDrop, s.Volumes)
	}
	caps := make([]string, len(s.CapAdd))
	for i, c := range s.CapAdd {
		caps[i] = "CAP_" + c
	}
	caps, err := held(caps)
	if err != nil {
		return nil, err
	}
	command := m.Command
	if len(s.Command) > 0 {
		command = s.Command
	}
	process := object{
		"user": object{"uid": 0, "gid": 0}, "cwd": "/", "args": slices.Concat(m.Entrypoint, command, args), "env": m.Env,
		"capabilities":    object{"bounding": caps, "effective": caps, "permitted": caps},
		"noNewPrivileges": slices.Contains(s.SecurityOpt, "no-new-privileges:true"),
	}
	if s.Ulimits["memlock"] != -1 {
		return nil, fmt.Errorf("netns: image: memlock %v is not rebuilt", s.Ulimits)
	}
	if may, err := held([]string{"CAP_SYS_RESOURCE"}); err == nil && len(may) > 0 { // else runc may do neither
		process["oomScoreAdj"] = s.OOMScore
		process["rlimits"] = []object{{"type": "RLIMIT_MEMLOCK", "soft": uint64(unix.RLIM_INFINITY), "hard": uint64(unix.RLIM_INFINITY)}}
	}
	mounts := []mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: imageData, Source: data, Options: []string{"rbind", "rw"}},
	}
	for _, folder := range m.Folders {
		mounts = append(mounts, mount{Destination: folder, Source: folder, Options: []string{"rbind", "ro"}})
	}
	confined := object{"namespaces": []object{{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "pid"}, {"type": "network", "path": network}}}
	if !slices.Contains(s.SecurityOpt, "systempaths=unconfined") { // else as every engine does
		confined["readonlyPaths"] = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
		confined["maskedPaths"] = []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"}
	}
	return object{
		"ociVersion": "1.0.2", "process": process, "mounts": mounts, "linux": confined,
		"root": object{"path": m.Root, "readonly": s.ReadOnly},
	}, nil
}
