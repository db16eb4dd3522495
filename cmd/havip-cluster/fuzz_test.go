package main

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
)

// FuzzParseMembers: a range is read whole or refused as a usage error.
func FuzzParseMembers(f *testing.F) {
	for _, text := range []string{"", "cvm:node-1,node-2", "eni:node-1/eth0", "cvm:", "cvm:a,,b", "eni", ":a", "cvm:a:b", "CVM:a"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		kind, members, err := parseMembers("--range", text)
		if err != nil {
			wantUsage(t, err)
			return
		}
		if slices.Contains(members, "") || kind+":"+strings.Join(members, ",") != text {
			t.Errorf("%q became %s %q", text, kind, members)
		}
	})
}

// FuzzParseAddress: an address is a socket's path, or a host with a port that a client can
// dial, and reading it again changes nothing.
func FuzzParseAddress(f *testing.F) {
	for _, text := range []string{"", "unix:/run/x.sock", "unix:", "10.0.0.1", "10.0.0.1:7400", "https://node-1", "https://[2001:db8::1]:7400/", "2001:db8::1", "[::1]", "http://a", "a:b", "a:0", "a:65536", "https://u@h", "h/p", "h?q", "[fe80::1%25eth0]:1", "a b", ":7400", "https://", "h:http"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		socket, hostPort, err := parseAddress(text)
		switch {
		case err != nil:
			wantUsage(t, err)
		case socket != "" && hostPort != "":
			t.Errorf("%q is both %q and %q", text, socket, hostPort)
		case hostPort != "":
			host, port, err := net.SplitHostPort(hostPort)
			if err != nil || host == "" || port == "0" {
				t.Errorf("%q became %q: %v", text, hostPort, err)
			}
			if _, again, err := parseAddress(hostPort); err != nil || again != hostPort {
				t.Errorf("%q became %q, that %q: %v", text, hostPort, again, err)
			}
		case socket == "" && text != "":
			t.Errorf("%q became nothing", text)
		}
	})
}

func wantUsage(t *testing.T, err error) {
	t.Helper()
	if !errors.As(err, new(usageError)) {
		t.Errorf("no usage error: %v", err)
	}
}
