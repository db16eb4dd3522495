package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"havip-cluster/api"
	"havip-cluster/membership/identity"
)

// envToken holds a token, so that it stands on no command line, which everybody on the host can
// read.
const envToken = "HAVIP_TOKEN"

// tokenBytesMax bounds what is read as a token.
const tokenBytesMax = 4 << 10

// secretText is the token that the caller gave: by --token-file (- is standard input), else by
// the environment; "" without one.
func (g *globals) secretText() (string, error) {
	if g.tokenFile == "" {
		return strings.TrimSpace(os.Getenv(envToken)), nil
	}
	in := g.stdin
	if g.tokenFile == "-" {
		defer g.quiet()()
	} else {
		f, err := os.Open(g.tokenFile)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		defer f.Close()
		in = f
	}
	text, err := readToken(in)
	if err != nil {
		return "", fmt.Errorf("--token-file %s: %w", g.tokenFile, err)
	}
	return text, nil
}

// readToken reads the first line that is not empty: a person at a terminal ends with Enter.
func readToken(in io.Reader) (string, error) {
	var text []byte
	one := make([]byte, 1)
	for len(text) <= tokenBytesMax {
		n, err := in.Read(one)
		if n == 1 {
			if one[0] == '\n' && len(strings.TrimSpace(string(text))) > 0 {
				break
			}
			text = append(text, one[0])
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	token := strings.TrimSpace(string(text))
	switch {
	case token == "":
		return "", usage("it holds no token")
	case len(text) > tokenBytesMax:
		return "", usage("it is longer than %d bytes, which no token is", tokenBytesMax)
	}
	return token, nil
}

// quiet asks for a token and stops the terminal from showing it. The result puts it back.
func (g *globals) quiet() (restore func()) {
	f, ok := g.stdin.(*os.File)
	if !ok {
		return func() {}
	}
	before, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return func() {} // no terminal
	}
	fmt.Fprint(g.stderr, "Token: ")
	silent := *before
	silent.Lflag &^= unix.ECHO
	_ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &silent)
	return func() {
		_ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, before)
		fmt.Fprintln(g.stderr)
	}
}

func newTokenCommand(g *globals) *cobra.Command {
	return group("token", "Tokens of people and programs", newTokenCreateCommand(g),
		verb("list", "All tokens, without their secrets", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			list, err := c.AccessTokens(ctx)
			return emitList(g, list, err, "No tokens; make one with `havip-cluster token create NAME --role viewer`.", tokenColumns)
		})),
		verb("revoke", "End a token at once", []string{"NAME"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
			d, err := c.RevokeAccessToken(ctx, args[0])
			return emit(g, d, err, func(w io.Writer, _ api.Done) { fmt.Fprintf(w, "token %s is revoked\n", args[0]) })
		})),
	)
}

var tokenColumns = []column[api.AccessToken]{
	{"NAME", func(t api.AccessToken) string { return t.Name }},
	{"ROLE", func(t api.AccessToken) string { return t.Role }},
	{"GROUP", func(t api.AccessToken) string { return t.Group }},
	{"EXPIRES", tokenEnd},
	{"CREATED", func(t api.AccessToken) string { return when(t.Created) }},
	{"BY", func(t api.AccessToken) string { return t.By }},
}

func tokenEnd(t api.AccessToken) string {
	switch {
	case t.Expires == nil:
		return "never"
	case t.Expired:
		return "expired"
	}
	return when(*t.Expires)
}

func newTokenCreateCommand(g *globals) *cobra.Command {
	var spec api.AccessTokenSpec
	var ttl time.Duration
	c := verb("create", "Make a token for a person or a program", []string{"NAME"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		spec.Name, spec.TTLSeconds = args[0], int64(ttl/time.Second)
		t, err := c.CreateAccessToken(ctx, spec)
		if err != nil {
			return err
		}
		err = emit(g, t, nil, func(w io.Writer, t api.AccessToken) {
			printPairs(w, []pair{{"NAME", t.Name}, {"ROLE", t.Role}, {"GROUP", cmp.Or(t.Group, "-")}, {"EXPIRES", tokenEnd(t)}, {"TOKEN", t.Token}})
		})
		g.next("keep the token in a file that only its owner reads: it is shown this once; then havip-cluster --address https://HOST:PORT --ca-file CA --token-file FILE status")
		return err
	}))
	c.Flags().StringVar(&spec.Role, "role", "", "viewer, operator or admin")
	c.Flags().StringVar(&spec.Group, "group", "", "it may touch the HAVIPs of this group alone")
	c.Flags().DurationVar(&ttl, "ttl", 0, "how long it is good for, 1m to 87600h (default: until it is revoked)")
	c.PreRunE = func(cmd *cobra.Command, _ []string) error {
		switch spec.Role {
		case "viewer", "operator", "admin":
		case "":
			return usage("--role is missing: viewer, operator or admin")
		default:
			return usage("--role %q is not viewer, operator or admin", spec.Role)
		}
		if cmd.Flags().Changed("ttl") && (ttl < time.Minute || ttl > 87600*time.Hour) {
			return usage("--ttl %s is not between 1m and 87600h", ttl)
		}
		return nil
	}
	return c
}

// auditPause is how often `audit --follow` looks.
const auditPause = time.Second

func newAuditCommand(g *globals) *cobra.Command {
	var follow bool
	var since string
	c := verb("audit", "Who changed what, from where, with the outcome; refusals are those of the present leader", none, func(cmd *cobra.Command, _ []string) error {
		from, err := sinceTime(since, time.Now())
		if err != nil {
			return err
		}
		c, err := g.client()
		if err != nil {
			return err
		}
		defer c.Close()
		if follow {
			ctx, cancel := interruptible(cmd.Context())
			defer cancel()
			return g.followAudit(ctx, c, from)
		}
		list, err := c.Audit(cmd.Context(), from)
		return emit(g, list, err, func(w io.Writer, list []api.AuditEntry) {
			if len(list) == 0 {
				fmt.Fprintln(g.stderr, "Nothing was changed or refused.")
			}
			for _, e := range list {
				printAudit(w, e)
			}
		})
	})
	c.Flags().BoolVar(&follow, "follow", false, "go on with those to come")
	c.Flags().StringVar(&since, "since", "", "only those after this time (2026-11-29T01:00:00Z), or of so long (1h)")
	return c
}

// sinceTime reads --since: a time, or how long ago.
func sinceTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, usage("--since %q is neither a time such as 2026-11-29T01:00:00Z nor how long ago, such as 1h", text)
	}
	return t, nil
}

// followAudit asks again and again, because refusals are the leader's, and the leader may change.
func (g *globals) followAudit(ctx context.Context, c *api.Client, since time.Time) error {
	seen := map[api.AuditEntry]bool{}
	for {
		list, err := c.Audit(ctx, since)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		now := map[api.AuditEntry]bool{}
		for _, e := range list {
			if now[e] = true; seen[e] {
				continue
			}
			if err := line(g, e, printAudit); err != nil {
				return err
			}
		}
		seen = now
		select {
		case <-time.After(auditPause):
		case <-ctx.Done():
			return nil
		}
	}
}

func printAudit(w io.Writer, e api.AuditEntry) {
	outcome := e.Outcome
	if e.Outcome == api.OutcomeRefused {
		outcome += " " + e.Code
	}
	if e.Times > 1 {
		outcome += fmt.Sprintf(" (%d times)", e.Times)
	}
	fmt.Fprintf(w, "%s  %-20s  %-24s  %-18s  %s  %s\n", e.At.UTC().Format("2006-01-02T15:04:05.000Z"), oneLine(e.Principal),
		oneLine(cmp.Or(e.Source, "local")), oneLine(e.Request), oneLine(cmp.Or(e.Object, "-")), outcome)
}

// trusted makes a client for an agent elsewhere: with a token and the CA's certificate of
// --ca-file, else of the data directory, or with the certificate of the node there.
func (g *globals) trusted(hostPort, token string) (*api.Client, error) {
	if g.caFile != "" {
		if token == "" {
			return nil, usage("--ca-file says whom to trust; who you are says a token: give --token-file FILE or set %s", envToken)
		}
		pem, err := os.ReadFile(g.caFile)
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		conf, err := identity.TrustTLS(pem)
		if err != nil {
			return nil, fmt.Errorf("--ca-file %s: %w", g.caFile, err)
		}
		return api.NewClient(hostPort, conf), nil
	}
	id, err := identity.Load(g.dataDir)
	switch {
	case err == nil && token != "":
		return api.NewClient(hostPort, identity.JoinTLS(id.ClusterID, identity.Fingerprint(id.Issuer()))), nil
	case err == nil:
		return api.NewClient(hostPort, id.ClientTLS()), nil
	case token != "":
		return nil, fmt.Errorf("%s is asked over TLS, which needs the CA's certificate to know it by: copy ca.crt from a node's data directory and name it with --ca-file (%w)", hostPort, err)
	}
	return nil, fmt.Errorf("%s is asked over TLS, which needs a token (--token-file or %s, with --ca-file) or the certificate of a member: %w", hostPort, envToken, err)
}
