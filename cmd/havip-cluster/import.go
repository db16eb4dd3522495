package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"havip-cluster/manifest"
	"havip-cluster/manifest/heartbeat"
	"havip-cluster/manifest/keepalived"
	"havip-cluster/manifest/mscs"
	"havip-cluster/manifest/pacemaker"
)

// importFilesMax bounds the files of one import.
const importFilesMax = keepalived.MaxSources

func newImportCommand(g *globals) *cobra.Command {
	c := group("import", "Make a configuration for apply of that of another program",
		newImportKeepalivedCommand(g),
		newImportPacemakerCommand(g),
		newImportHeartbeatCommand(g),
		newImportMSCSCommand(g),
	)
	c.Long = c.Short + ".\n\n" + importText
	return c
}

// importText is what the help of every importer says of the outcome.
const importText = "The configuration goes to stdout. On stderr is one finding for each line of the old one: taken; changed (it means something else here); left out, with the reason;\n" +
	"fault (it did not do there what it looks like). Read faults and changes before you apply. Neither an agent nor root nor a network is needed.\n\n" +
	"The exit code is 1 when nothing was imported, and when an address, a node or an included file is missing in the result; the findings name the lines."

func newImportKeepalivedCommand(g *globals) *cobra.Command {
	var nodes, roots []string
	c := importVerb(g, "keepalived", "From keepalived.conf, one file for each node", []string{"FILE", "[FILE...]"}, func(sources []manifest.Source) (manifest.Import, error) {
		return keepalived.Import(sources, keepalived.Options{Nodes: nodes, Files: onDisk{}, Roots: roots})
	})
	c.Long = c.Short + ". What Keepalived did is imported, not what the file says: words that it ignores are faults.\n\n" + importText
	c.Example = `  havip-cluster import keepalived --node lb1,lb2 lb1.conf lb2.conf > havips.yaml
  havip-cluster import keepalived --check --node lb1,lb2 lb1.conf lb2.conf          # only the findings
  havip-cluster import keepalived --node lb1,lb2 keepalived.conf                    # one file with @lb1 and @lb2 in it
  havip-cluster import keepalived --node lb1,lb2 --root lb1/,lb2/ lb1.conf lb2.conf # with includes, copied to lb1/etc/keepalived/ and so on`
	c.Flags().StringSliceVar(&nodes, "node", nil, "the nodes of the files, in their order (default: router_id, else the file's name); with one file and @conditions, the nodes to read it for")
	c.Flags().StringSliceVar(&roots, "root", nil, "a folder that stands for the / of the nodes, to find what is included: one for all files, or one for each in their order")
	before := c.PreRunE
	c.PreRunE = func(cmd *cobra.Command, args []string) error {
		switch files := len(args); {
		case files > 1 && len(nodes) > 0 && len(nodes) != files:
			return usage("--node names %s for %s: name one for each file, in their order", plural(len(nodes), "node"), plural(files, "file"))
		case len(roots) > 1 && len(roots) != files:
			return usage("--root names %s for %s: give one for all, or one for each file, in their order", plural(len(roots), "folder"), plural(files, "file"))
		case slices.Contains(nodes, "") || slices.Contains(roots, ""):
			return usage("--node or --root has an empty name in it")
		}
		for _, root := range roots {
			if info, err := os.Stat(root); err != nil || !info.IsDir() {
				return usage("--root %s is no folder here", root)
			}
		}
		return before(cmd, args)
	}
	return c
}

func newImportPacemakerCommand(g *globals) *cobra.Command {
	c := importVerb(g, "pacemaker", "From a CIB (cibadmin --query), in XML", []string{"FILE"}, func(sources []manifest.Source) (manifest.Import, error) {
		return pacemaker.Import(sources[0])
	})
	c.Long = c.Short + ". The addresses (IPaddr2, IPaddr, IPv6addr) become HAVIPs. Services that are bound to one count for where it goes, as in Pacemaker.\n\n" + importText
	c.Example = `  havip-cluster import pacemaker cib.xml > havips.yaml
  havip-cluster import pacemaker --check cib.xml                                    # only the findings
  havip-cluster import pacemaker --check -o json cib.xml                            # for a program`
	return c
}

func newImportHeartbeatCommand(g *globals) *cobra.Command {
	c := importVerb(g, "heartbeat", "From haresources, and ha.cf for the nodes and auto_failback", []string{"FILE", "[FILE...]"}, heartbeat.Import)
	c.Long = c.Short + ". With the CRM on (Heartbeat 2) the CIB counts: `import pacemaker`.\n\n" + importText
	c.Example = `  havip-cluster import heartbeat /etc/ha.d/haresources /etc/ha.d/ha.cf > havips.yaml
  havip-cluster import heartbeat --check haresources ha.cf                          # only the findings`
	return c
}

func newImportMSCSCommand(g *globals) *cobra.Command {
	c := importVerb(g, "mscs", "From a Windows failover cluster: what its cmdlets print as JSON", []string{"FILE", "[FILE...]"}, mscs.Import)
	c.Long = c.Short + ". Resources of the types IP Address and IPv6 Address become HAVIPs, with the policy of their groups. The files may be in any\n" +
		"order; UTF-16, as PowerShell 5 writes it, is read. An agent for Windows there is not: the addresses move to Linux hosts. docs/from-mscs.md\n\n" +
		`On a node of that cluster, in PowerShell:
  Get-ClusterGroup | ConvertTo-Json -Depth 3 > groups.json
  Get-ClusterResource | ConvertTo-Json -Depth 3 > resources.json
  Get-ClusterResource | Get-ClusterParameter | ConvertTo-Json -Depth 3 > parameters.json
  Get-ClusterGroup | Get-ClusterOwnerNode | ConvertTo-Json -Depth 3 > preferred.json
  Get-ClusterResource | Get-ClusterOwnerNode | ConvertTo-Json -Depth 3 > possible.json
  Get-ClusterNode | ConvertTo-Json -Depth 3 > nodes.json

` + importText
	c.Example = `  havip-cluster import mscs groups.json resources.json parameters.json preferred.json possible.json nodes.json > havips.yaml
  havip-cluster import mscs --check *.json                                          # only the findings`
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
			return cmp.Or(emit(g, append([]manifest.Finding{}, out.Findings...), nil, nil), missing(out))
		}
		for l := range strings.Lines(out.Report()) {
			fmt.Fprintln(g.stderr, oneLine(strings.TrimSuffix(l, "\n")))
		}
		if faults, ok := errors.AsType[manifest.Faults](err); ok {
			return fileFaults{faults}
		}
		if err != nil || check {
			return cmp.Or(err, missing(out))
		}
		text := out.Manifest.YAML()
		if g.output == "json" {
			text = out.Manifest.JSON()
		}
		if _, err := g.stdout.Write(text); err != nil {
			return err
		}
		if err := missing(out); err != nil {
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

// missing is the error of an import for which something is missing in the result.
func missing(out manifest.Import) error {
	lost := out.Lost()
	if len(lost) == 0 {
		return nil
	}
	return fmt.Errorf("%s not taken, first %s:%d (%s): put it right and import again, or add what is missing by hand", plural(len(lost), "line"), lost[0].File, lost[0].Line, oneLine(lost[0].Option))
}
