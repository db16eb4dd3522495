package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"havip-cluster/api"
	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

func newKeysCommand(g *globals) *cobra.Command {
	return group("keys", "Certificates and keys of the cluster", newKeysRotateCommand(g),
		verb("status", "Each certificate and key: how long it lasts, who has it, what is being replaced", none, g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			keys, err := c.Keys(ctx)
			return emitList(g, keys, err, "No keys are reported yet: a node runs an older version, or the cluster has no leader.", keyColumns)
		})),
		newKeysRenewOfflineCommand(g), newKeysRequestCommand(g), newKeysSignCommand(g), newKeysInstallCommand(g))
}

var keyColumns = []column[api.KeyView]{
	{"WHAT", func(k api.KeyView) string { return k.What }},
	{"NODE", func(k api.KeyView) string { return k.Node }},
	{"ID", func(k api.KeyView) string { return short(k.ID) }},
	{"ISSUER", func(k api.KeyView) string { return short(k.Issuer) }},
	{"UNTIL", func(k api.KeyView) string {
		if k.NotAfter == nil {
			return ""
		}
		return when(*k.NotAfter)
	}},
	{"DAYS LEFT", func(k api.KeyView) string {
		if k.DaysLeft == nil {
			return ""
		}
		return strconv.FormatFloat(*k.DaysLeft, 'f', 1, 64)
	}},
	{"STATE", func(k api.KeyView) string { return k.State }},
	{"HELD BY", func(k api.KeyView) string { return strings.Join(k.Holders, ", ") }},
	{"PHASE", func(k api.KeyView) string { return k.Phase }},
	{"WAITS FOR", func(k api.KeyView) string { return strings.Join(k.Awaited, ", ") }},
}

// short is the beginning of a fingerprint, as far as people compare it.
func short(id string) string { return id[:min(len(id), 16)] }

func newKeysRotateCommand(g *globals) *cobra.Command {
	var b api.KeyRotation
	c := verb("rotate", "Replace the gossip key, the certificates of nodes, or the CA, on the running cluster", []string{"gossip|node|ca"},
		g.ask(func(ctx context.Context, c *api.Client, _ []string) error {
			keys, err := c.RotateKeys(ctx, b)
			if err == nil {
				g.next("%s; it goes on by itself, and names the nodes that it waits for", g.self("keys status"))
			}
			return emitList(g, keys, err, "", keyColumns)
		}))
	c.Long = c.Short + ".\n\n" +
		"gossip: every node gets the new key, then uses it, then the old one is dropped. Nodes that are off fetch it when they come back.\n" +
		"node:   a new key and certificate for each node, or for --node alone.\n" +
		"ca:     every node trusts the new CA, then gets a certificate of it, then the old CA is dropped. Each phase waits\n" +
		"        for every node, also one that is off; `keys status` names it. --force ends the present phase without it:\n" +
		"        after the last phase such a node comes back with `keys request`, `keys sign` and `keys install` only."
	c.Flags().StringVar(&b.Node, "node", "", "name of the node, with node; default: all")
	c.Flags().BoolVar(&b.Force, "force", false, "with ca: end the present phase without the nodes that have not confirmed it")
	c.PreRunE = func(_ *cobra.Command, args []string) error {
		b.What = args[0]
		switch {
		case !slices.Contains([]string{fsm.KeyOfGossip, fsm.KeyOfNode, fsm.KeyOfCA}, b.What):
			return usage("keys rotate takes gossip, node or ca, not %q", b.What)
		case b.Node != "" && b.What != fsm.KeyOfNode:
			return usage("--node goes with `keys rotate node`")
		case b.Force && b.What != fsm.KeyOfCA:
			return usage("--force goes with `keys rotate ca`")
		}
		return nil
	}
	return c
}

// tellRotation says after a removal which keys are being replaced because of it.
func (g *globals) tellRotation(ctx context.Context, c *api.Client, node string) {
	keys, err := c.Keys(ctx)
	if err != nil {
		return // the removal itself is done, and said
	}
	for _, what := range []string{"gossip", "ca"} {
		for _, k := range keys {
			if k.What != what || k.Phase == "" {
				continue
			}
			text := map[string]string{
				"gossip": "The gossip key is being replaced, because node %s knew it; `keys status` shows how far it is.\n",
				"ca":     "The CA is being replaced, because node %s had its key; `keys status` shows how far it is (--keep-ca does without).\n",
			}[what]
			fmt.Fprintf(g.stderr, text, node)
			break
		}
	}
}

// request is what a node asks of a holder of the CA's key by file.
type keyRequest struct {
	Cluster string     `json:"cluster"`
	Node    string     `json:"node"` // id
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	CSR     string     `json:"csr"`
}

// keyAnswer is what it gets.
type keyAnswer struct {
	Node        string       `json:"node"`
	Certificate string       `json:"certificate"`
	CAs         []anchorText `json:"cas"`
}

type anchorText struct {
	Certificate string `json:"certificate"`
	Cross       string `json:"cross,omitempty"`
}

const keyFileMax = 64 << 10 // bytes of a request or an answer

func newKeysRenewOfflineCommand(g *globals) *cobra.Command {
	var life time.Duration
	c := verb("renew-offline", "Make a new certificate for this node, which has the CA's key, without a cluster", none, func(*cobra.Command, []string) error {
		id, unlock, err := g.endedIdentity()
		if err != nil {
			return err
		}
		defer unlock()
		ca := id.Authority()
		if ca == nil {
			return fmt.Errorf("this node has not the CA's key; make a request with %s, sign it at a node that has it with `havip-cluster keys sign FILE --node NAME`, and bring the answer back to `havip-cluster keys install`", g.self("keys request"))
		}
		csr, key, err := identity.NewCSR()
		if err != nil {
			return err
		}
		cert, err := identity.SignCSRFor(ca, csr, id.NodeID, id.Name, id.Advertise, time.Now(), life)
		if err == nil {
			err = id.Renew(cert, key, time.Now())
		}
		if err != nil {
			return err
		}
		g.next("the same at the other nodes that have the CA's key, `havip-cluster keys request` at those without, then %s", g.self("agent"))
		return g.printLeaf(id)
	})
	c.Long = c.Short + ".\n\n" +
		"A certificate that ended less than 90 days ago needs none of this: start the agents, they elect a leader and renew.\n" +
		"Beyond that the members refuse each other. The agent of this node has to be stopped. A node without the CA's key\n" +
		"gets its certificate by file: `keys request` there, `keys sign FILE --node NAME` at a node with the key, `keys install FILE` there."
	c.Flags().DurationVar(&life, "life", 0, "how long the certificate is made for (default: 2 years)")
	return c
}

func newKeysRequestCommand(g *globals) *cobra.Command {
	return verb("request", "Print a request for a certificate of this node, for `keys sign` at a node that has the CA's key", none, func(*cobra.Command, []string) error {
		id, err := identity.LoadEnded(g.dataDir)
		if err != nil {
			return err
		}
		csr, err := id.RenewalCSR()
		if err != nil {
			return err
		}
		g.next("carry it to a node that has the CA's key, and there: `havip-cluster keys sign FILE --node NAME`")
		return printJSON(g.stdout, keyRequest{Cluster: id.ClusterID, Node: id.NodeID, Name: id.Name, Address: id.Advertise, CSR: string(csr)})
	})
}

func newKeysSignCommand(g *globals) *cobra.Command {
	var life time.Duration
	var really string
	c := verb("sign", "Sign a request that `keys request` printed, with the CA's key of this node", []string{"FILE"}, func(_ *cobra.Command, args []string) error {
		var r keyRequest
		if err := readJSON(args[0], &r); err != nil {
			return err
		}
		id, err := identity.LoadEnded(g.dataDir)
		if err != nil {
			return err
		}
		switch ca := id.Authority(); {
		case r.Cluster != id.ClusterID:
			return fmt.Errorf("the request is of cluster %s, this is %s", r.Cluster, id.ClusterID)
		case ca == nil:
			return fmt.Errorf("this node has not the CA's key; `havip-cluster keys status` names those that have it")
		case really != r.Name:
			return usage("the request is of node %s (%s) at %s, as it says itself; if you know that it is a member, repeat with --node %s", r.Name, r.Node, r.Address, r.Name)
		}
		cert, err := identity.SignCSRFor(id.Authority(), []byte(r.CSR), r.Node, r.Name, r.Address, time.Now(), life)
		if err != nil {
			return err
		}
		out := keyAnswer{Node: r.Node, Certificate: string(cert)}
		for _, a := range id.Anchors() {
			t := anchorText{Certificate: string(identity.CertPEM(a.Cert))}
			if a.Cross != nil {
				t.Cross = string(identity.CertPEM(a.Cross))
			}
			out.CAs = append(out.CAs, t)
		}
		g.next("carry it back, and at node %s, with its agent stopped: `havip-cluster keys install FILE`", r.Name)
		return printJSON(g.stdout, out)
	})
	c.Flags().StringVar(&really, "node", "", "name of the node that the request is of: a word that you know it to be a member")
	c.Flags().DurationVar(&life, "life", 0, "how long the certificate is made for (default: 2 years)")
	return c
}

func newKeysInstallCommand(g *globals) *cobra.Command {
	return verb("install", "Take a certificate that `keys sign` printed into use, with the agent stopped", []string{"FILE"}, func(_ *cobra.Command, args []string) error {
		var a keyAnswer
		if err := readJSON(args[0], &a); err != nil {
			return err
		}
		id, unlock, err := g.endedIdentity()
		if err != nil {
			return err
		}
		defer unlock()
		anchors, err := anchorsOf(id.ClusterID, a.CAs)
		if err != nil {
			return err
		}
		// First beside those of before, because the present certificate is of one of those.
		both := id.Anchors()
		for _, n := range anchors {
			if !slices.ContainsFunc(both, func(o identity.Anchor) bool { return o.ID() == n.ID() }) {
				both = append(both, n)
			}
		}
		for _, step := range []func() error{
			func() error { return id.Trust(both) },
			func() error { return id.Renew([]byte(a.Certificate), nil, time.Now()) },
			func() error { return id.Trust(anchors) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		g.next("%s", g.self("agent"))
		return g.printLeaf(id)
	})
}

func anchorsOf(cluster string, list []anchorText) ([]identity.Anchor, error) {
	var out []identity.Anchor
	for _, t := range list {
		a, err := identity.ParseAnchor(cluster, []byte(t.Certificate), []byte(t.Cross))
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the answer names no CA; is it what `keys sign` printed?")
	}
	return out, nil
}

// endedIdentity loads this node however old its certificate is, for a command that changes it.
func (g *globals) endedIdentity() (*identity.Identity, func(), error) {
	unlock, err := identity.Lock(g.dataDir)
	if err != nil {
		return nil, nil, err
	}
	id, err := identity.LoadEnded(g.dataDir)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return id, unlock, nil
}

func (g *globals) printLeaf(id *identity.Identity) error {
	leaf := id.Leaf()
	from, until := leaf.NotBefore.UTC(), leaf.NotAfter.UTC()
	v := api.KeyView{What: "certificate", Node: id.Name, ID: identity.Fingerprint(leaf), Issuer: identity.Fingerprint(id.Issuer()), NotBefore: &from, NotAfter: &until, State: "ok"}
	return emitPairs(g, v, nil, func(v api.KeyView) []pair {
		return []pair{{"NODE", v.Node}, {"CERTIFICATE", v.ID}, {"ISSUER", v.Issuer}, {"FROM", when(*v.NotBefore)}, {"UNTIL", when(*v.NotAfter)}}
	})
}

func printJSON(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}

// readJSON reads a file of ours; - is the standard input.
func readJSON(path string, into any) error {
	in := os.Stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, keyFileMax))
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("%s is not what `keys request` or `keys sign` printed: %w", path, err)
	}
	return nil
}
