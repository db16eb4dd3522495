package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// applyAttempts bounds how often `apply` begins again because another change came between
// its diff and its change.
const applyAttempts = 5

// readFile reads a configuration; "-" is stdin. What is too long is not read to its end.
func (g *globals) readFile(name string) ([]byte, error) {
	in := g.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, manifest.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > manifest.MaxBytes {
		return nil, fmt.Errorf("%s: more than %d bytes; split the configuration", name, manifest.MaxBytes)
	}
	return data, nil
}

// fileFaults is an error that is one line for each fault of a file.
type fileFaults struct{ faults manifest.Faults }

func (e fileFaults) Error() string { return e.faults.Error() }

// decodeFile reads a configuration and checks it by itself. Warnings go to stderr.
func (g *globals) decodeFile(name string) (manifest.Manifest, []byte, error) {
	data, err := g.readFile(name)
	if err != nil {
		return manifest.Manifest{}, nil, err
	}
	m, warnings, err := manifest.Decode(data)
	g.tellFaults(name, warnings)
	if faults, ok := errors.AsType[manifest.Faults](err); ok {
		return m, data, fileFaults{named(name, faults)}
	}
	return m, data, err
}

// named puts the file's name before each fault.
func named(file string, faults manifest.Faults) manifest.Faults {
	out := append(manifest.Faults{}, faults...)
	for i := range out {
		if out[i].File == "" {
			out[i].File = shownName(file)
		}
	}
	return out
}

func shownName(file string) string {
	if file == "-" {
		return "stdin"
	}
	return file
}

func (g *globals) tellFaults(file string, faults manifest.Faults) {
	for _, f := range named(file, faults) {
		fmt.Fprintln(g.stderr, oneLine(f.Error()))
	}
}

func newApplyCommand(g *globals) *cobra.Command {
	var file, note string
	var o api.ApplyOptions
	var revision string
	var s showing
	c := verb("apply", "Make the configuration what a file says, whole or not at all", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		m, data, err := g.decodeFile(file)
		if err != nil {
			return err
		}
		if o.Note = note; note == "" && file != "-" {
			o.Note = filepath.Base(file)
		}
		return g.change(ctx, c, o, s, objects(m), func(o api.ApplyOptions) (api.Applied, error) { return c.Apply(ctx, data, o) })
	}))
	c.Long = "What the file names is made or changed: subnets, HAVIPs, groups, checks, webhooks, wishes about nodes, limits. The rest stays, unless --prune deletes it.\n" +
		"The diff is on stderr before the change, the result on stdout: how many objects were created, changed and deleted, and how many of the file\n" +
		"stay as they are. A file that names the revision that it was exported at is refused when the configuration has changed since; without that\n" +
		"line it is not.\n\n" + manyChanges
	s.register(c)
	c.Flags().StringVarP(&file, "file", "f", "", "the configuration, YAML or JSON; - is stdin")
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what would change")
	c.Flags().BoolVar(&o.Prune, "prune", false, "delete what the file does not name, of the kinds that it speaks of")
	c.Flags().StringVar(&revision, "expect", "", "refuse unless this is the present revision")
	c.Flags().StringVar(&note, "note", "", "is kept with the revision (default: the file's name)")
	c.PreRunE = func(*cobra.Command, []string) error {
		if file == "" {
			return usage("say which file: -f FILE, or -f - for stdin")
		}
		return expect(&o, revision)
	}
	return c
}

// expect reads --expect.
func expect(o *api.ApplyOptions, text string) error {
	if text == "" {
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return usage("--expect %q is not the number of a revision", text)
	}
	o.Expected = &n
	return nil
}

// manyChanges is said in the help of every verb that changes the configuration.
var manyChanges = fmt.Sprintf("More than %d changes are only counted, unless --diff asks for each. On a terminal they are also asked about, unless --yes is given;\n"+
	"where input or messages are no terminal, nothing is ever asked, so scripts need no --yes.", diffShown)

// register makes the flags of a verb that changes the configuration.
func (s *showing) register(c *cobra.Command) {
	c.Flags().BoolVar(&s.diff, "diff", false, fmt.Sprintf("show every change, also when there are more than %d", diffShown))
	c.Flags().DurationVar(&s.wait, "wait", 0, "then wait so long, with progress on stderr, until the enabled HAVIPs that were made or changed are served")
	c.Flags().BoolVarP(&s.yes, "yes", "y", false, fmt.Sprintf("do not ask about more than %d changes", diffShown))
}

// change shows what a change would do, and then does exactly that: it is bound to the
// revision that the diff was made on, and begins again when another change came between,
// unless the caller or the file named a revision. of counts the objects that the change speaks of, below
// 0 when that is not known.
func (g *globals) change(ctx context.Context, c *api.Client, o api.ApplyOptions, s showing, of int, do func(api.ApplyOptions) (api.Applied, error)) error {
	for attempt := 1; ; attempt++ {
		try := o
		try.DryRun = true
		out, err := do(try)
		if err != nil {
			return err
		}
		if o.DryRun || !out.Changed {
			out.DryRun = o.DryRun
			return emit(g, out, nil, func(w io.Writer, a api.Applied) { s.printForeseen(w, a, of) })
		}
		if g.table() {
			s.printChanges(g.stderr, out.Changes)
		}
		if err := g.confirm(s, out.Changes); err != nil {
			return err
		}
		try = o
		try.Expected = &out.Revision
		done, err := do(try)
		if p, ok := errors.AsType[*api.Problem](err); ok && p.Code == string(fsm.CodeConflict) && o.Expected == nil && attempt < applyAttempts {
			fmt.Fprintln(g.stderr, "Another change came between; beginning again.")
			continue
		}
		if err == nil {
			done.Changed, done.Changes = true, out.Changes // what was announced; a repeat of a lost answer knows no more
		}
		if err := emit(g, done, err, func(w io.Writer, a api.Applied) { printDone(w, a, of) }); err != nil || s.wait == 0 {
			return err
		}
		return g.served(ctx, c, havipsOf(done.Changes), s.wait)
	}
}

// printForeseen prints what a dry run found, or that there is nothing to do.
func (s showing) printForeseen(w io.Writer, a api.Applied, of int) {
	if !a.Changed {
		fmt.Fprintf(w, "revision %d: nothing to change\n", a.Revision)
		return
	}
	s.printChanges(w, a.Changes)
	t := count(a.Changes)
	fmt.Fprintf(w, "revision %d: %s, not done (dry run)\n", a.Revision, t.summary(unchangedIn(of, t)))
}

func newExportCommand(g *globals) *cobra.Command {
	return verb("export", "The whole configuration as a file, for apply, verify and plan --offline", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		format := "yaml"
		if g.output == "json" || g.path != nil {
			format = "json"
		}
		data, err := c.Export(ctx, format)
		if err != nil {
			return err
		}
		if g.path != nil {
			text, err := g.printPath(data)
			if err != nil {
				return err
			}
			data = []byte(text)
		}
		_, err = g.stdout.Write(data)
		return err
	}))
}

// verified is the result of `verify` for one file.
type verified struct {
	File   string          `json:"file"`
	OK     bool            `json:"ok"`
	HAVIPs int             `json:"havips"`
	Groups int             `json:"groups"`
	Faults manifest.Faults `json:"faults"`
}

func newVerifyCommand(g *globals) *cobra.Command {
	return verb("verify", "Check configuration files by themselves, without a cluster", []string{"FILE", "[FILE...]"}, func(_ *cobra.Command, args []string) error {
		var results []verified
		bad := 0
		for _, name := range args {
			v, err := g.verify(name)
			if err != nil {
				return err
			}
			if !v.OK {
				bad++
			}
			results = append(results, v)
		}
		err := emit(g, results, nil, func(w io.Writer, results []verified) {
			for _, v := range results {
				g.tellFaults(v.File, v.Faults)
				if v.OK {
					fmt.Fprintf(w, "%s: ok, %s, %s\n", oneLine(shownName(v.File)), plural(v.HAVIPs, "HAVIP"), plural(v.Groups, "group"))
				}
			}
		})
		if err == nil && bad > 0 {
			err = fmt.Errorf("%s with faults", plural(bad, "file"))
		}
		return err
	})
}

func (g *globals) verify(name string) (verified, error) {
	out := verified{File: name, Faults: manifest.Faults{}}
	data, err := g.readFile(name)
	if err != nil {
		return out, err
	}
	m, warnings, err := manifest.Decode(data)
	if faults, ok := errors.AsType[manifest.Faults](err); ok {
		out.Faults = append(out.Faults, faults...)
	} else if err != nil {
		return out, err
	}
	out.Faults = append(out.Faults, warnings...)
	if out.OK = err == nil; out.OK {
		out.HAVIPs, out.Groups = len(m.HAVIPs), len(m.Groups)
	}
	return out, nil
}

func newRevisionsCommand(g *globals) *cobra.Command {
	return verb("revisions", "Configurations that can be rolled back to", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		list, err := c.Revisions(ctx)
		return emitList(g, list, err, "No revisions; the first `havip-cluster apply` keeps what was before it.", []column[api.Revision]{
			{"REVISION", func(r api.Revision) string { return strconv.FormatUint(r.Number, 10) }},
			{"AT", func(r api.Revision) string { return when(r.At) }},
			{"BY", func(r api.Revision) string { return r.By }},
			{"PRESENT", func(r api.Revision) string { return map[bool]string{true: "yes"}[r.Present] }},
			{"NOTE", func(r api.Revision) string { return r.Note }},
		})
	}))
}

func newRollbackCommand(g *globals) *cobra.Command {
	var o api.ApplyOptions
	var s showing
	var revision string
	var number uint64
	c := verb("rollback", "Make the configuration what it was at a revision", []string{"REVISION"}, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		return g.change(ctx, c, o, s, -1, func(o api.ApplyOptions) (api.Applied, error) { return c.Rollback(ctx, number, o) })
	}))
	c.Long = "It is whole or not at all, with the diff on stderr before the change.\n\n" + manyChanges
	s.register(c)
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what would change")
	c.Flags().StringVar(&revision, "expect", "", "refuse unless this is the present revision")
	c.PreRunE = func(_ *cobra.Command, args []string) (err error) {
		if number, err = strconv.ParseUint(args[0], 10, 64); err != nil || number == 0 {
			return usage("%q is not the number of a revision; `havip-cluster revisions` lists those there are", args[0])
		}
		return expect(&o, revision)
	}
	return c
}
