// Command havip-cluster is the agent that runs on every node, and the command line by
// which people and scripts speak with it.
//
// Here are the verbs, their flags and what they print; everything else is in the packages.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/agent/guard"
	"havip-cluster/api"
	"havip-cluster/havip"
	"havip-cluster/internal/jsonpath"
	"havip-cluster/membership/identity"
	"havip-cluster/netdev/fence"
)

const (
	defaultDataDir = "/var/lib/havip-cluster"
	envAddress     = "HAVIP_ADDR"
)

// version is set by the linker in releases.
var version = ""

func main() {
	if fence.ProofChild() { // before all else: this process is a witness, not a node
		return
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program: arguments in, exit code out.
func run(args []string, stdout, stderr io.Writer) int {
	out := &checkedOutput{Writer: stdout}
	g := &globals{stdin: os.Stdin, stdout: out, stderr: stderr, flush: func() {}}
	root := newRoot(g)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	cmd, err := root.ExecuteC()
	if err == nil && out.err != nil {
		err = fmt.Errorf("not all of the output was written: %w", out.err)
	}
	if err != nil {
		report(g.stderr, cmd, err)
	}
	g.flush()
	return api.ExitCode(err)
}

// report prints an error as a sentence, with its stable code where it has one.
func report(w io.Writer, cmd *cobra.Command, err error) {
	if _, said := errors.AsType[guard.End](err); said {
		return
	}
	if _, said := errors.AsType[healthExit](err); said {
		return
	}
	code := ""
	if p, ok := errors.AsType[*api.Problem](err); ok {
		code = " [" + p.Code + "]"
	}
	fmt.Fprintf(w, "Error: %s%s\n", abridged(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "identity: "), "api: ")), code)
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(w, "See '%s --help'.\n", cmd.CommandPath())
	}
}

// usageError is a command line that makes no sense: exit code 2.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// ExitCode is asked by api.ExitCode.
func (usageError) ExitCode() int { return api.ExitUsage }

func usage(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// asUsage makes a usage error of an error about a value that was typed.
func asUsage(err error) error {
	if errors.Is(err, identity.ErrInvalid) || errors.Is(err, identity.ErrToken) {
		text := strings.TrimPrefix(err.Error(), identity.ErrInvalid.Error()+": ")
		return usage("%s", strings.TrimPrefix(text, "identity: "))
	}
	return err
}

// globals are the flags of every verb, and where it prints.
type globals struct {
	dataDir string
	address string // "" = the socket of the local agent
	output  string // table, wide, json, yaml, name, or jsonpath with a template in path
	path    *jsonpath.Template
	bare    bool // tables without their first line
	// tokenFile names the file of a token, "-" is standard input; caFile that of the CA's
	// certificate.
	tokenFile, caFile string

	timeout time.Duration
	// timeoutNamed says that a person named it; without, some calls have more.
	timeoutNamed bool

	stdin          io.Reader
	stdout, stderr io.Writer
	flush          func() // has stderr written before the program ends
}

func newRoot(g *globals) *cobra.Command {
	root := &cobra.Command{
		Use:   "havip-cluster",
		Short: "Highly available virtual IPs without a load balancer",
		Long: "havip-cluster keeps floating addresses (HAVIPs) on exactly one of several hosts.\n\n" +
			"First node:  havip-cluster bootstrap --node NAME --advertise IP, then havip-cluster agent\n" +
			"Other nodes: havip-cluster node add NAME at a member, then the join command that it prints",
		SilenceErrors: true, SilenceUsage: true,
		Args: unknownVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			g.timeoutNamed = cmd.Flags().Changed("timeout")
			if g.output == "name" && cmd.Name() != "list" && cmd.Name() != "placement" {
				return usage("-o name is for lists; use table, json, yaml or jsonpath here")
			}
			return g.check(cmd.Flags().Changed("address"))
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&g.dataDir, "data-dir", defaultDataDir, "the node's data directory")
	f.StringVar(&g.address, "address", "", "agent to ask: https://HOST:PORT or unix:PATH (default: $"+envAddress+", else the local agent's socket)")
	f.StringVar(&g.tokenFile, "token-file", "", "file with the token to show, - for standard input (default: $"+envToken+")")
	f.StringVar(&g.caFile, "ca-file", "", "certificate of the cluster's CA, or several one after the other, for an agent elsewhere (default: that of the data directory)")
	f.StringVarP(&g.output, "output", "o", "table", "table, wide: with more columns, json, yaml, name: what a list names, one a line, or jsonpath=TEMPLATE such as '{.[*].name}'")
	f.BoolVar(&g.bare, "no-headers", false, "tables without their first line")
	f.DurationVar(&g.timeout, "timeout", api.DefaultTimeout, "how long to try; for a whole configuration 1m, unless named")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%s", flagSentence(err)) })
	root.AddCommand(
		newBootstrapCommand(g), newJoinCommand(g), newPreflightCommand(g), newCalibrateCommand(g), newAgentCommand(g), newNodeCommand(g), newSubnetCommand(g), newENICommand(g),
		newHAVIPCommand(g), newGroupCommand(g), newCheckCommand(g), newProviderCommand(g), newPlacementCommand(g), newExplainCommand(g), newPlanCommand(g),
		newApplyCommand(g), newExportCommand(g), newVerifyCommand(g), newRevisionsCommand(g), newRollbackCommand(g), newImportCommand(g),
		newStatusCommand(g), newWaitCommand(g), newEventsCommand(g), newAuditCommand(g), newTokenCommand(g), newFailoversCommand(g), newWebhookCommand(g), newClusterCommand(g), newKeysCommand(g), newSnapshotCommand(g), newConsoleCommand(g), newRecoverCommand(g), newDebugCommand(g), newDemoCommand(g), newVersionCommand(g), newManCommand(),
	)
	root.Version = programVersion()
	root.SetVersionTemplate("{{.Version}}\n")
	shorten(root)
	explainVerbs(root)
	completeNames(g, root)
	return root
}

// shorten gives the verbs the short names that people of other tools type.
func shorten(c *cobra.Command) {
	for _, sub := range c.Commands() {
		switch sub.Name() {
		case "list":
			sub.Aliases = append(sub.Aliases, "ls")
		case "delete":
			sub.Aliases = append(sub.Aliases, "rm")
		case "remove":
			sub.Aliases = append(sub.Aliases, "rm")
		}
		shorten(sub)
	}
}

// flagSentence turns what the flag parser says into a sentence.
func flagSentence(err error) string {
	if typed := (*havip.FlagError)(nil); errors.As(err, &typed) {
		return typed.Error()
	}
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "unknown flag: "); ok {
		return "there is no flag " + name
	}
	return strings.TrimPrefix(text, "invalid argument ")
}

// check looks at the global flags once they are parsed.
func (g *globals) check(addressSet bool) error {
	if template, given := strings.CutPrefix(g.output, "jsonpath="); given {
		path, err := jsonpath.Parse(template)
		if err != nil {
			return usage("-o jsonpath: %v", err)
		}
		g.output, g.path = "jsonpath", path
	}
	switch {
	case g.output == "jsonpath" && g.path == nil:
		return usage("-o jsonpath needs a template: -o jsonpath='{.[*].name}'")
	case !slices.Contains([]string{"table", "wide", "json", "yaml", "name", "jsonpath"}, g.output):
		return usage("-o %q is not a format: table, wide, json, yaml, name or jsonpath=TEMPLATE", g.output)
	case g.timeout <= 0:
		return usage("--timeout %s is not a time to try for; use a positive duration such as 10s", g.timeout)
	case g.dataDir == "":
		return usage("--data-dir is empty; name the node's data directory")
	}
	if env := os.Getenv(envAddress); !addressSet && env != "" {
		g.address = env
	}
	_, _, err := parseAddress(g.address)
	return err
}

// parseAddress reads --address: the path of a socket, or host:port.
func parseAddress(text string) (socket, hostPort string, err error) {
	if text == "" {
		return "", "", nil
	}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if path == "" {
			return "", "", usage("address %q names no socket; use unix:PATH", text)
		}
		return path, "", nil
	}
	rest, secure := strings.CutPrefix(text, "https://")
	if u, err := url.Parse("https://" + rest); err != nil || !secure && strings.Contains(text, "://") || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return "", "", usage("address %q is not one of an agent; use https://HOST:PORT or unix:PATH", text)
	}
	hostPort, err = withPort(strings.TrimSuffix(rest, "/"))
	return "", hostPort, err
}

// withPort adds the default API port to a host without one.
func withPort(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.Trim(text, "[]"), fmt.Sprint(identity.DefaultPorts.API)
	}
	n, numErr := net.LookupPort("tcp", port)
	if !isHost(host) || numErr != nil || n == 0 {
		return "", usage("%q is not HOST or HOST:PORT of an agent", text)
	}
	return net.JoinHostPort(host, fmt.Sprint(n)), nil
}

// isHost reports whether text is an IP address, perhaps with a zone, or looks like a name.
func isHost(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	})
}

// client makes a client for the agent that the flags name.
func (g *globals) client() (*api.Client, error) {
	socket, hostPort, err := parseAddress(g.address)
	if err != nil {
		return nil, err
	}
	token, err := g.secretText()
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(token, "havip1.") {
		return nil, usage("the token is one to join with, and says nothing about who asks; `havip-cluster token create` makes another kind")
	}
	var c *api.Client
	if hostPort != "" {
		if c, err = g.trusted(hostPort, token); err != nil {
			return nil, err
		}
	} else {
		if socket == "" {
			socket = identity.SocketPath(g.dataDir)
		}
		c = api.NewLocalClient(filepath.Clean(socket))
	}
	c.Token = token
	if g.timeoutNamed {
		c.Timeout = g.timeout
	}
	return c, nil
}

// ask wraps what a verb does with a client.
func (g *globals) ask(do func(ctx context.Context, c *api.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := g.client()
		if err != nil {
			return err
		}
		defer c.Close()
		return do(cmd.Context(), c, args)
	}
}

// next prints the next command to type.
func (g *globals) next(format string, args ...any) {
	fmt.Fprintf(g.stderr, "Next: "+format+"\n", args...)
}

// self is the command line of this node, with its data directory if it is not the usual.
func (g *globals) self(verb string) string {
	if g.dataDir == defaultDataDir {
		return "havip-cluster " + verb
	}
	return "havip-cluster " + verb + " --data-dir " + g.dataDir
}

// interruptible gives a context that ends with SIGINT or SIGTERM, for verbs that follow.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// group is a verb that only has other verbs below it.
func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	c.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage("%s needs a verb: %s", cmd.CommandPath(), verbNames(cmd))
		}
		return unknownVerb(cmd, args)
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	c.AddCommand(verbs...)
	return c
}

func unknownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usage("%s has no verb %q%s", cmd.CommandPath(), args[0], hint)
}

func verbNames(cmd *cobra.Command) string {
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	return strings.Join(names, ", ")
}

// takes checks the number of arguments; names are what the usage line calls them, and one
// ending in "..." takes any number; one in brackets may be left out.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		least, most := 0, len(names)
		for _, n := range names {
			if strings.HasSuffix(strings.TrimSuffix(n, "]"), "...") {
				most = len(args) + len(names)
			}
			if !strings.HasPrefix(n, "[") {
				least++
			}
		}
		switch {
		case len(args) < least:
			return usage("%s needs %s", cmd.CommandPath(), strings.Join(names[len(args):], " "))
		case len(args) > most:
			return usage("%s does not know what to do with %q", cmd.CommandPath(), args[most])
		}
		for i, a := range args {
			if a == "" {
				return usage("argument %d of %s is empty; it should be %s", i+1, cmd.CommandPath(), names[min(i, len(names)-1)])
			}
		}
		return nil
	}
}

// verb makes a command whose use line is its name and the names of its arguments.
func verb(name, short string, args []string, do func(*cobra.Command, []string) error) *cobra.Command {
	return &cobra.Command{Use: strings.TrimSpace(name + " " + strings.Join(args, " ")), Short: short, Args: takes(args...), RunE: do}
}

// none is the list of arguments of a verb without any.
var none []string

// programVersion is that of the release, else that which the build recorded.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func newVersionCommand(g *globals) *cobra.Command {
	return verb("version", "The version of this program", none, func(*cobra.Command, []string) error {
		return emit(g, map[string]string{"version": programVersion()}, nil, func(w io.Writer, v map[string]string) {
			fmt.Fprintln(w, "havip-cluster "+v["version"])
		})
	})
}
