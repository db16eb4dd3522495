package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/fsm"
)

func newWebhookCommand(g *globals) *cobra.Command {
	remove := verb("delete", "Forget a webhook", []string{"NAME"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		d, err := c.DeleteWebhook(ctx, args[0])
		return emit(g, d, err, func(w io.Writer, _ api.Done) { fmt.Fprintf(w, "webhook %s is deleted\n", args[0]) })
	}))
	remove.Example = "  havip-cluster webhook delete ops"
	show := verb("list", "All webhooks, how far each has come, and why one fails", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
		list, err := c.Webhooks(ctx)
		return emitList(g, list, err, "No webhooks; make one with `havip-cluster webhook create NAME URL`.", webhookColumns)
	}))
	show.Example = "  havip-cluster webhook list\n  havip-cluster webhook list -o json"
	test := verb("test", "Send a message of kind test now, from the leader", []string{"NAME"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		d, err := c.TestWebhook(ctx, args[0])
		return emit(g, d, err, func(w io.Writer, _ api.Done) { fmt.Fprintf(w, "webhook %s has taken the test\n", args[0]) })
	}))
	test.Example = "  havip-cluster webhook test ops"
	return group("webhook", "Programs that are told of events", newWebhookCreateCommand(g), show, remove, test)
}

var webhookColumns = []column[api.Webhook]{
	{"NAME", func(h api.Webhook) string { return h.Name }},
	{"URL", func(h api.Webhook) string { return h.URL }},
	{"EVENTS", func(h api.Webhook) string { return cmp.Or(strings.Join(h.Events, ","), "all") }},
	{"SIGNED", func(h api.Webhook) string { return strconv.FormatBool(h.Signed) }},
	{"SENT", func(h api.Webhook) string { return strconv.FormatUint(h.Sent, 10) }},
	{"LOST", func(h api.Webhook) string { return strconv.FormatUint(h.Lost, 10) }},
	{"FAILURE", func(h api.Webhook) string { return cmp.Or(h.Failure, "-") }},
}

func newWebhookCreateCommand(g *globals) *cobra.Command {
	var spec api.WebhookSpec
	var file string
	c := verb("create", "Tell a program of events, by a POST for each", []string{"NAME", "URL"}, g.ask(func(ctx context.Context, c *api.Client, args []string) error {
		spec.Name, spec.URL = args[0], args[1]
		h, err := c.CreateWebhook(ctx, spec)
		err = emit(g, h, err, func(w io.Writer, h api.Webhook) { printTable(w, []api.Webhook{h}, webhookColumns) })
		if err == nil {
			g.next("havip-cluster webhook test " + spec.Name)
		}
		return err
	}))
	c.Long = "Tells a program of events from now on: the leader sends a JSON document by POST for each, repeats it until the answer is 2xx, and signs it with the secret\n" +
		"(HMAC-SHA256). An event may come more than once; its id says so. docs/webhooks.md has the format, and recipes for chat, pagers and mail."
	c.Example = "  havip-cluster webhook create ops https://hooks.example/x --events placed,conflict --secret-file /etc/havip-cluster/ops.secret\n  havip-cluster webhook create all https://gateway.example:8443/havip"
	c.Flags().StringSliceVar(&spec.Events, "events", nil, "only these kinds of events, such as placed,gave-up (default: all)")
	c.Flags().StringVar(&file, "secret-file", "", fmt.Sprintf("file whose first line is the key of the signature, %d to %d bytes; - for standard input", fsm.MinWebhookSecret, fsm.MaxWebhookSecret))
	c.PreRunE = func(*cobra.Command, []string) (err error) {
		spec.Secret, err = g.webhookSecret(file)
		return err
	}
	return c
}

// webhookSecret reads a secret; "" without a file.
func (g *globals) webhookSecret(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	in := g.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("--secret-file: %w", err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, tokenBytesMax))
	if err != nil {
		return "", fmt.Errorf("--secret-file %s: %w", file, err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	secret := strings.TrimSpace(line)
	if n := len(secret); n < fsm.MinWebhookSecret || n > fsm.MaxWebhookSecret {
		return "", usage("--secret-file %s: its first line has %d bytes, %d to %d are possible; `openssl rand -hex 32` makes one", file, n, fsm.MinWebhookSecret, fsm.MaxWebhookSecret)
	}
	return secret, nil
}
