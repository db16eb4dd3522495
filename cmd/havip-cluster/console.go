package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/api/console"
)

// Limits of a console on a port of its own.
const (
	consoleHeader = 5 * time.Second
	consoleIdle   = 2 * time.Minute
	consoleStop   = 2 * time.Second
)

func newConsoleCommand(g *globals) *cobra.Command {
	var listen string
	c := verb("console", "Open a local port for a browser, with your own rights", none, func(cmd *cobra.Command, _ []string) error {
		at, err := loopback(listen)
		if err != nil {
			return err
		}
		return g.ask(func(ctx context.Context, c *api.Client, _ []string) error { return g.serveConsole(ctx, c, at) })(cmd, nil)
	})
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "where the browser comes: a loopback address; port 0 = any that is free")
	c.Long = "Serves the console's pages on a loopback port until it is interrupted, and prints an address that opens them once, within a minute.\n" +
		"The pages may do what you may by this command line: as root over the local socket, or with --address, --token-file and --ca-file.\n" +
		"Every agent serves the same pages at https://NODE:7400/console/, where a token logs in. From another host, without a token: `ssh -L 8080:127.0.0.1:8080 root@node-1 havip-cluster console --listen 127.0.0.1:8080`."
	c.Example = "  havip-cluster console\n  havip-cluster console --listen 127.0.0.1:8080\n" +
		"  havip-cluster --address https://10.77.0.11:7400 --ca-file ca.crt --token-file ~/.havip-token console"
	return c
}

// loopback refuses an address that others than this host reach: the port needs no password but the address
// that was printed.
func loopback(text string) (string, error) {
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return "", usage("--listen %q is not an address and a port such as 127.0.0.1:0", text)
	}
	if !at.Addr().IsLoopback() {
		return "", usage("--listen %s is not a loopback address; other hosts come to https://NODE:7400/console/ with a token, or by ssh -L", text)
	}
	return at.String(), nil
}

// serveConsole serves until it is interrupted.
func (g *globals) serveConsole(ctx context.Context, c *api.Client, at string) error {
	if _, err := c.Status(ctx, true); err != nil { // with its sentence when nobody is there
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	l, err := net.Listen("tcp", at)
	if err != nil {
		return fmt.Errorf("console: %w", err)
	}
	host := l.Addr().String()
	// A path that nobody knows keeps the cookie from what else listens on this host's loopback.
	k := console.New(console.Config{API: c.RoundTripper(), Base: "/" + rand.Text(), Own: true, Host: host})
	srv := &http.Server{Handler: k, ReadHeaderTimeout: consoleHeader, IdleTimeout: consoleIdle, BaseContext: func(net.Listener) context.Context { return ctx }}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	address := "http://" + host + k.OneTime()
	if err := emit(g, map[string]string{"url": address}, nil, consoleURL); err != nil {
		_ = srv.Close()
		return errors.Join(err, <-served)
	}
	fmt.Fprintln(g.stderr, "It opens the console once, within a minute. Interrupt this command to close it.")
	select {
	case err = <-served:
		return fmt.Errorf("console: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), consoleStop)
	defer cancel()
	if srv.Shutdown(end) != nil {
		_ = srv.Close() // what was still at work
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("console: %w", err)
	}
	return nil
}

func consoleURL(w io.Writer, v map[string]string) { fmt.Fprintln(w, v["url"]) }
