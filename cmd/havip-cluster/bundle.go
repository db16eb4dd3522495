package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
)

// bundleWait is how long each question of a bundle may take: there may be no leader.
const bundleWait = 3 * time.Second

// bundled is what `debug bundle` prints.
type bundled struct {
	File    string   `json:"file"`
	Entries []string `json:"entries"`
	Missing []string `json:"missing"` // what could not be had, and why
}

func newDebugCommand(g *globals) *cobra.Command {
	var file string
	c := verb("bundle", "Write what a person needs who is to find a fault, into one file", none, func(cmd *cobra.Command, _ []string) error {
		b, err := g.bundle(cmd.Context(), file)
		return emit(g, b, err, func(w io.Writer, b bundled) {
			for _, m := range b.Missing {
				fmt.Fprintln(g.stderr, "missing: "+oneLine(m))
			}
			fmt.Fprintf(w, "%s: %d files\n", b.File, len(b.Entries))
		})
	})
	c.Long = c.Short + ".\n\n" +
		"It holds what the agent answers (configuration, placement, events, failovers, metrics, the newest lines of its log, its\n" +
		"goroutines), this host's interfaces, drivers, routes, settings, fence and load, and the names and sizes of the files in the data\n" +
		"directory. Keys, certificates and the Raft log are not in it, and what looks like a secret is taken out; names and addresses\n" +
		"stay. It is made without an agent too, and says then what is missing."
	c.Flags().StringVarP(&file, "file", "f", "", "file to write; it must not exist (default: havip-cluster-debug-TIME.tar.gz here)")
	return group("debug", "For whoever looks for a fault", c)
}

// bundle writes the file, or removes what it has begun.
func (g *globals) bundle(ctx context.Context, file string) (b bundled, err error) {
	now := time.Now().UTC()
	if file == "" {
		file = "havip-cluster-debug-" + now.Format("20060102T150405Z") + ".tar.gz"
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return b, fmt.Errorf("the bundle cannot be written: %w; name another file with -f", err)
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = errors.Join(err, os.Remove(file))
		}
	}()
	b = bundled{File: file, Entries: []string{}, Missing: []string{}}
	secrets := secretsOf(g.dataDir)
	zip := gzip.NewWriter(out)
	t := tar.NewWriter(zip)
	for _, p := range slices.Concat(hostParts(g.dataDir), kernelParts(), g.agentParts()) {
		data, err := p.read(ctx)
		if err != nil {
			b.Missing = append(b.Missing, fmt.Sprintf("%s: %v", p.name, err))
			if p.name == firstAsked {
				b.Missing = append(b.Missing, "all else that the agent would tell: it was not asked again")
				break
			}
			continue
		}
		data = redacted(data, secrets)
		head := &tar.Header{Name: "havip-cluster-debug/" + p.name, Mode: 0o600, Size: int64(len(data)), ModTime: now}
		if err := t.WriteHeader(head); err != nil {
			return b, fmt.Errorf("write %s: %w", file, err)
		}
		if _, err := t.Write(data); err != nil {
			return b, fmt.Errorf("write %s: %w", file, err)
		}
		b.Entries = append(b.Entries, p.name)
	}
	if err := errors.Join(t.Close(), zip.Close()); err != nil {
		return b, fmt.Errorf("write %s: %w", file, err)
	}
	return b, nil
}

// firstAsked is answered by any agent that runs, with a leader or without: if it is missing,
// nobody is asked for the parts after it.
const firstAsked = "status.json"

// part is one file of a bundle.
type part struct {
	name string
	read func(ctx context.Context) ([]byte, error)
}

// hostParts are what this host tells without an agent.
func hostParts(dataDir string) []part {
	parts := []part{
		{"version.txt", func(context.Context) ([]byte, error) { return []byte(programVersion() + "\n"), nil }},
		{"data-dir.txt", func(context.Context) ([]byte, error) { return listing(dataDir) }},
		{"interfaces.txt", func(context.Context) ([]byte, error) { return interfaces() }},
	}
	for _, name := range []string{"version", "uptime", "loadavg", "meminfo", "pressure/cpu", "pressure/io"} {
		parts = append(parts, part{"proc/" + name + ".txt", func(context.Context) ([]byte, error) { return os.ReadFile(filepath.Join("/proc", name)) }})
	}
	return parts
}

// agentParts are what the agent tells, firstAsked before all others.
func (g *globals) agentParts() []part {
	ask := func(name string, get func(context.Context, *api.Client) (any, error)) part {
		return part{name, func(ctx context.Context) ([]byte, error) {
			c, err := g.client()
			if err != nil {
				return nil, err
			}
			defer c.Close()
			c.Timeout = min(g.timeout, bundleWait)
			v, err := get(ctx, c)
			if err != nil {
				return nil, err
			}
			if raw, ok := v.([]byte); ok {
				return raw, nil
			}
			var b bytes.Buffer
			err = encoder(&b, "  ").Encode(v)
			return b.Bytes(), err
		}}
	}
	return []part{
		ask(firstAsked, func(ctx context.Context, c *api.Client) (any, error) { return c.Status(ctx, true) }),
		ask("log.txt", func(ctx context.Context, c *api.Client) (any, error) { return c.LogTail(ctx) }),
		ask("goroutines.txt", func(ctx context.Context, c *api.Client) (any, error) { return c.Goroutines(ctx) }),
		ask("placement.json", func(ctx context.Context, c *api.Client) (any, error) { return c.Placement(ctx, nil, true) }),
		ask("metrics.txt", func(ctx context.Context, c *api.Client) (any, error) { return c.Metrics(ctx) }),
		ask("export.yaml", func(ctx context.Context, c *api.Client) (any, error) { return c.Export(ctx, "yaml") }),
		ask("cluster.json", func(ctx context.Context, c *api.Client) (any, error) { return c.Cluster(ctx) }),
		ask("nodes.json", func(ctx context.Context, c *api.Client) (any, error) { return c.Nodes(ctx) }),
		ask("enis.json", func(ctx context.Context, c *api.Client) (any, error) { return c.ENIs(ctx) }),
		ask("havips.json", func(ctx context.Context, c *api.Client) (any, error) { return c.HAVIPs(ctx) }),
		ask("events.json", func(ctx context.Context, c *api.Client) (any, error) { return c.Events(ctx, "", false) }),
		ask("failovers.json", func(ctx context.Context, c *api.Client) (any, error) { return c.Failovers(ctx, "") }),
		ask("revisions.json", func(ctx context.Context, c *api.Client) (any, error) { return c.Revisions(ctx) }),
	}
}

// listing names the files below a directory with mode, size and time, without a look into them.
func listing(dir string) ([]byte, error) {
	var b bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has gone since
		}
		if err == nil {
			fmt.Fprintf(&b, "%s %12d %s %q\n", info.Mode(), info.Size(), info.ModTime().UTC().Format(time.RFC3339), path)
		}
		return err
	})
	return b.Bytes(), err
}

func interfaces() ([]byte, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, i := range list {
		addrs, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		texts := make([]string, len(addrs))
		for j, a := range addrs {
			texts[j] = a.String()
		}
		fmt.Fprintf(&b, "%d %s mtu %d %s %s %s\n", i.Index, i.Name, i.MTU, i.HardwareAddr, i.Flags, strings.Join(texts, " "))
	}
	return b.Bytes(), nil
}
