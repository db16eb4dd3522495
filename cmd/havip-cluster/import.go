package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"havip-cluster/manifest"
	"havip-cluster/manifest/heartbeat"
	"havip-cluster/manifest/keepalived"
	"havip-cluster/manifest/pacemaker"
)

// importFilesMax bounds the files of one import.
const importFilesMax = keepalived.MaxSources

func newImportCommand(g *globals) *cobra.Command {
	return group("import", "Make a configuration for apply of that of another program",
		newImportKeepalivedCommand(g),
		importVerb(g, "pacemaker", "From a CIB (cibadmin --query), in XML", []string{"FILE"}, func(sources []manifest.Source) (manifest.Import, error) {
			return pacemaker.Import(sources[0])
		}),
		importVerb(g, "heartbeat", "From haresources, and ha.cf for the nodes and auto_failback", []string{"FILE", "[FILE...]"}, heartbeat.Import),
	)
}

func newImportKeepalivedCommand(g *globals) *cobra.Command {
	var nodes []string
	c := importVerb(g, "keepalived", "From keepalived.conf, one file for each node", []string{"FILE", "[FILE...]"}, func(sources []manifest.Source) (manifest.Import, error) {
		return keepalived.Import(sources, keepalived.Options{Nodes: nodes, Files: onDisk{}})
	})
	c.Flags().StringSliceVar(&nodes, "node", nil, "the nodes of the files, in their order; with one file and @conditions, the nodes to read it for")
	return c
}

// onDisk follows the includes of a file.
type onDisk struct{}

// Glob implements keepalived.Files.
func (onDisk) Glob(pattern string) ([]string, error) { return filepath.Glob(pattern) }

// ReadFile implements keepalived.Files. What is too long is not read to its end; the
// importer refuses it.
func (onDisk) ReadFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, manifest.MaxBytes+1))
}

// importVerb reads files, prints what became of each line on stderr, and the configuration
// on stdout.
func importVerb(g *globals, name, short string, args []string, do func([]manifest.Source) (manifest.Import, error)) *cobra.Command {
	var check bool
	c := verb(name, short, args, func(_ *cobra.Command, args []string) error {
		var sources []manifest.Source
		for _, file := range args {
			data, err := g.readFile(file)
			if err != nil {
				return err
			}
			sources = append(sources, manifest.Source{Name: shownName(file), Data: data})
		}
		out, err := do(sources)
		if check && g.output == "json" && err == nil {
			return emit(g, append([]manifest.Finding{}, out.Findings...), nil, nil)
		}
		for l := range strings.Lines(out.Report()) {
			fmt.Fprintln(g.stderr, oneLine(strings.TrimSuffix(l, "\n")))
		}
		if faults, ok := errors.AsType[manifest.Faults](err); ok {
			return fileFaults{faults}
		}
		if err != nil || check {
			return err
		}
		text := out.Manifest.YAML()
		if g.output == "json" {
			text = out.Manifest.JSON()
		}
		if _, err := g.stdout.Write(text); err != nil {
			return err
		}
		g.next("havip-cluster apply -f FILE --dry-run, with what is above in FILE")
		return nil
	})
	c.Flags().BoolVar(&check, "check", false, "only report")
	c.PreRunE = func(_ *cobra.Command, args []string) error {
		stdin := 0
		for _, a := range args {
			if a == "-" {
				stdin++
			}
		}
		switch {
		case len(args) > importFilesMax:
			return usage("%d files, at most %d", len(args), importFilesMax)
		case stdin > 1:
			return usage("stdin (-) can be read once")
		}
		return nil
	}
	return c
}
