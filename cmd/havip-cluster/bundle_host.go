package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"havip-cluster/netdev/fence"
)

// toolMax bounds what one program or file puts into a bundle, in bytes.
const toolMax = 1 << 20

// kernelParts are what the kernel of this host tells about the network.
func kernelParts() []part {
	tool := func(name string, args ...string) part {
		return part{name, func(ctx context.Context) ([]byte, error) { return output(ctx, args...) }}
	}
	return []part{
		tool("routes-ipv4.txt", "ip", "-4", "route", "show", "table", "all"),
		tool("routes-ipv6.txt", "ip", "-6", "route", "show", "table", "all"),
		tool("rules.txt", "ip", "rule", "show"),
		tool("addresses.txt", "ip", "-details", "address", "show"),
		tool("neighbours.txt", "ip", "neigh", "show"),
		{"sysctls.txt", func(context.Context) ([]byte, error) { return sysctls() }},
		{"drivers.txt", func(context.Context) ([]byte, error) { return drivers() }},
		{"fence.json", func(context.Context) ([]byte, error) { return fences() }},
	}
}

// output runs a program for at most bundleWait.
func output(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, bundleWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, oneLine(said.String()))
	}
	return out.Bytes()[:min(out.Len(), toolMax)], nil
}

// settings are the files below /proc/sys/net on which the agent or the kernel's ARP depends.
var settings = []string{
	"ipv4/conf/*/arp_ignore", "ipv4/conf/*/arp_announce", "ipv4/conf/*/arp_filter", "ipv4/conf/*/arp_notify", "ipv4/conf/*/rp_filter", "ipv4/conf/*/accept_local",
	"ipv4/conf/*/forwarding", "ipv6/conf/*/accept_dad", "ipv6/conf/*/forwarding", "ipv6/conf/*/disable_ipv6", "ipv4/ip_nonlocal_bind", "ipv6/ip_nonlocal_bind",
	"core/bpf_jit_enable", "core/netdev_budget", "core/netdev_budget_usecs", "core/rmem_max", "core/wmem_max",
}

func sysctls() ([]byte, error) {
	var b bytes.Buffer
	for _, pattern := range settings {
		files, err := filepath.Glob("/proc/sys/net/" + pattern)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				raw = []byte(err.Error())
			}
			fmt.Fprintf(&b, "%s = %s\n", strings.ReplaceAll(strings.TrimPrefix(file, "/proc/sys/"), "/", "."), strings.TrimSpace(string(raw)))
		}
	}
	return b.Bytes(), nil
}

// drivers is `ethtool -i` of each interface, without ethtool.
func drivers() ([]byte, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var b bytes.Buffer
	for _, i := range list {
		info, err := unix.IoctlGetEthtoolDrvinfo(fd, i.Name)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", i.Name, err)
			continue
		}
		text := unix.ByteSliceToString
		fmt.Fprintf(&b, "%s: driver %q version %q firmware %q bus %q\n", i.Name, text(info.Driver[:]), text(info.Version[:]), text(info.Fw_version[:]), text(info.Bus_info[:]))
	}
	return b.Bytes(), nil
}

// fenceNow is one fence as the kernel has it.
type fenceNow struct {
	Kind     string            `json:"kind"`
	Hook     string            `json:"hook"`
	Boot     int64             `json:"boot_now_ns"`
	Deadline int64             `json:"deadline_ns"`
	Entries  []fence.Entry     `json:"entries"`
	Devices  map[string]string `json:"devices"` // by name; "" is intact
	Counters fence.Counters    `json:"counters"`
}

// fences reads every fence of this network namespace, whosever it is.
func fences() ([]byte, error) {
	found, err := fence.Find("")
	out := []fenceNow{}
	for _, f := range found {
		now := fenceNow{Kind: string(f.Kind()), Hook: f.Hook(), Boot: fence.BootNow(), Devices: map[string]string{}}
		r, e := f.Read()
		now.Entries, now.Deadline = r.Entries, r.Deadline
		for index, why := range r.Devices {
			name, text := fmt.Sprint(index), ""
			if d, e := net.InterfaceByIndex(index); e == nil {
				name = d.Name
			}
			if why != nil {
				text = why.Error()
			}
			now.Devices[name] = text
		}
		var c error
		now.Counters, c = f.Counters()
		err = errors.Join(err, e, c, f.Close())
		out = append(out, now)
	}
	if err != nil && len(out) == 0 {
		return nil, err
	}
	return json.MarshalIndent(out, "", "  ")
}

// secretShapes are texts that look like a secret of this program, wherever they come from: a token
// that somebody typed, a key in a file that a hook printed.
var secretShapes = []*regexp.Regexp{
	regexp.MustCompile(`havip1\.[A-Za-z0-9._-]{16,}`), regexp.MustCompile(`havipt_[A-Za-z0-9._-]{16,}`),
	regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`),
	regexp.MustCompile(`(?i)(authorization: *bearer +)\S+`),
}

// redacted is a part of a bundle without what looks like a secret, and without the secrets of this
// node's data directory.
func redacted(data []byte, secrets [][]byte) []byte {
	for _, s := range secrets {
		data = bytes.ReplaceAll(data, s, []byte("[secret]"))
	}
	for _, shape := range secretShapes {
		data = shape.ReplaceAll(data, []byte("[secret]"))
	}
	return data
}

// secretFiles are the files of a data directory that hold secrets.
var secretFiles = []string{"node.key", "ca.key", "gossip.key", "keys.json"}

// secretsOf reads the lines of the secret files of a data directory that are long enough to be a
// part of a key.
func secretsOf(dataDir string) [][]byte {
	const least = 20 // bytes
	var out [][]byte
	for _, name := range secretFiles {
		raw, err := os.ReadFile(filepath.Join(dataDir, name))
		if err != nil {
			continue
		}
		for _, line := range bytes.FieldsFunc(raw, func(r rune) bool { return strings.ContainsRune("\n\", :{}[]", r) }) {
			if len(line) >= least && !bytes.HasPrefix(line, []byte("-----")) {
				out = append(out, line)
			}
		}
	}
	slices.SortFunc(out, func(a, b []byte) int { return len(b) - len(a) })
	return out
}
