package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newManCommand writes the manual, for packages; it is not in the list of verbs.
func newManCommand() *cobra.Command {
	c := verb("man", "Write the manual pages into a directory", []string{"DIRECTORY"}, func(cmd *cobra.Command, args []string) error {
		return writeManual(cmd.Root(), args[0])
	})
	c.Hidden = true
	return c
}

// writeManual writes a page for the program and one for each of its verbs.
func writeManual(root *cobra.Command, dir string) error {
	for _, c := range append([]*cobra.Command{root}, root.Commands()...) {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		page := filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".8")
		if err := os.WriteFile(page, manPage(c), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// manPage is the page of a command with all that is below it, as roff (man(7)). It has no date:
// the same program gives the same bytes.
func manPage(c *cobra.Command) []byte {
	var b bytes.Buffer
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH %s 8 \"\" \"havip-cluster %s\" \"System administration\"\n", roff(strings.ToUpper(name)), roff(programVersion()))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(c.Short))
	b.WriteString(".SH SYNOPSIS\n")
	eachVerb(c, func(v *cobra.Command) {
		fmt.Fprintf(&b, ".B %s\n.br\n", roff(v.UseLine()))
	})
	b.WriteString(".SH DESCRIPTION\n")
	paragraphs(&b, longOf(c))
	if c.HasParent() {
		eachVerb(c, func(v *cobra.Command) { manVerb(&b, v) })
	} else {
		b.WriteString(".SH VERBS\n")
		for _, v := range c.Commands() {
			if !v.Hidden && v.Name() != "help" {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s; see havip-cluster-%s(8)\n", roff(v.Name()), roff(v.Short), roff(v.Name()))
			}
		}
		b.WriteString(".SH GLOBAL FLAGS\n")
		flags(&b, c.PersistentFlags())
		b.WriteString(".SH EXIT STATUS\n0 done, 1 refused or failed, 2 usage, 3 no agent or no leader reached, 4 not found\n")
		b.WriteString(".SH FILES\n.TP\n.I /var/lib/havip\\-cluster\nthe data directory\n.TP\n.I /etc/havip\\-cluster/agent.yaml\nthe agent's own settings\n")
	}
	return b.Bytes()
}

// eachVerb calls f for each command at or below c that does something.
func eachVerb(c *cobra.Command, f func(*cobra.Command)) {
	if c.Hidden {
		return
	}
	if !c.HasSubCommands() {
		f(c)
	}
	for _, sub := range c.Commands() {
		eachVerb(sub, f)
	}
}

func manVerb(b *bytes.Buffer, v *cobra.Command) {
	fmt.Fprintf(b, ".SS %s\n", roff(v.UseLine()))
	paragraphs(b, longOf(v))
	flags(b, v.NonInheritedFlags())
	if v.Example != "" {
		fmt.Fprintf(b, ".PP\n.nf\n%s\n.fi\n", roff(strings.TrimRight(v.Example, "\n")))
	}
}

func longOf(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short + "."
}

func paragraphs(b *bytes.Buffer, text string) {
	for i, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		b.WriteString(roff(p) + "\n")
	}
}

func flags(b *bytes.Buffer, set *pflag.FlagSet) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		short := ""
		if f.Shorthand != "" {
			short = "\\-" + f.Shorthand + ", "
		}
		fmt.Fprintf(b, ".TP\n.B %s\\-\\-%s %s\n%s\n", short, roff(f.Name), roff(value), roff(usage))
	})
}

// roff protects what roff would take for its own.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
