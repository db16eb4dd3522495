package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"havip-cluster/agent"
	"havip-cluster/api"
	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// nodeFlags are what bootstrap and join share.
type nodeFlags struct {
	name, advertise string
	ports           identity.Ports
}

func (f *nodeFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.name, "node", "", "name of this node")
	c.Flags().StringVar(&f.advertise, "advertise", "", "IP by which the other nodes reach this one")
	c.Flags().IntVar(&f.ports.API, "api-port", identity.DefaultPorts.API, "TCP port of the API")
	c.Flags().IntVar(&f.ports.Raft, "raft-port", identity.DefaultPorts.Raft, "TCP port of Raft")
	c.Flags().IntVar(&f.ports.Gossip, "gossip-port", identity.DefaultPorts.Gossip, "TCP and UDP port of gossip")
	c.Flags().IntVar(&f.ports.Lease, "lease-port", identity.DefaultPorts.Lease, "UDP port for the words of the lease")
}

// check looks at the values before anything is made or asked.
func (f *nodeFlags) check() (netip.Addr, error) {
	if f.name == "" {
		return netip.Addr{}, usage("--node is missing; give this node a name, for example node-1")
	}
	if f.advertise == "" {
		return netip.Addr{}, usage("--advertise is missing; give the IP by which the other nodes reach this one")
	}
	addr, err := netip.ParseAddr(f.advertise)
	if err != nil {
		return addr, usage("--advertise %q is not an IP address; give the one by which the other nodes reach this one", f.advertise)
	}
	if f.ports.Lease == 0 {
		return addr, usage("--lease-port 0 is no port; leave it out for %d", identity.DefaultPorts.Lease)
	}
	for _, err := range []error{identity.CheckNodeName(f.name), identity.CheckAdvertise(addr), f.ports.Check()} {
		if err != nil {
			return addr, asUsage(err)
		}
	}
	return addr, nil
}

// made is what bootstrap and join print.
type made struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	ID      string `json:"id"`
	Role    string `json:"role"`
	DataDir string `json:"data_dir"`
}

func (g *globals) madeNode(s identity.Settings, how string) error {
	m := made{Cluster: s.ClusterID, Node: s.Name, ID: s.NodeID, Role: string(s.Role), DataDir: g.dataDir}
	defer g.next("%s", g.self("agent"))
	return emit(g, m, nil, func(w io.Writer, m made) {
		fmt.Fprintf(w, how+"\n", m.Node, m.Cluster, m.DataDir)
	})
}

func newBootstrapCommand(g *globals) *cobra.Command {
	var f nodeFlags
	var profile string
	var lease time.Duration
	c := verb("bootstrap", "Make the first node of a new cluster, and exit", none, func(*cobra.Command, []string) error {
		addr, err := f.check()
		if err != nil {
			return err
		}
		if lease < 0 {
			return usage("--lease %s is negative", lease)
		}
		spec, err := identity.NewCluster(identity.Settings{
			Name: f.name, Advertise: addr, Ports: f.ports, Profile: identity.Profile(profile), Lease: lease,
		}, time.Now())
		if err != nil {
			return asUsage(err)
		}
		if err := makeNode(g.dataDir, spec, func() error { return agent.Bootstrap(g.dataDir) }); err != nil {
			return err
		}
		return g.madeNode(spec.Settings, "node %s is the first of cluster %s, in %s")
	})
	f.register(c)
	c.Flags().StringVar(&profile, "profile", string(identity.ProfileLAN), "fast, lan or wan: how quickly hosts and network answer")
	c.Flags().DurationVar(&lease, "lease", 0, "lease length (default: that of the profile)")
	return c
}

// makeNode makes a data directory and what Raft needs in it, or nothing: the lock is not
// held in between, because nothing runs from it yet.
func makeNode(dir string, spec identity.Spec, raft func() error) error {
	if err := identity.Create(dir, spec); err != nil {
		return asUsage(identity.Explain(dir, err))
	}
	if err := raft(); err != nil {
		return errors.Join(fmt.Errorf("the log of the new node cannot be made: %w", identity.Explain(dir, err)), removeNode(dir))
	}
	return nil
}

// removeNode removes what was made in dir, which held no state of ours before. Other
// files, and the directory if it has some, stay.
func removeNode(dir string) error {
	var errs []error
	for _, name := range []string{"identity.json", "raft", "ca.crt", "ca.key", "node.crt", "node.key", "gossip.key", "keys.json", "lock"} {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	_ = os.Remove(dir) // only when it is empty
	return errors.Join(errs...)
}

func newJoinCommand(g *globals) *cobra.Command {
	var f nodeFlags
	var tokenText string
	c := verb("join", "Make a node that joins a cluster, and exit", []string{"PEER"}, func(cmd *cobra.Command, args []string) error {
		addr, err := f.check()
		if err != nil {
			return err
		}
		if tokenText == "" {
			if tokenText, err = g.secretText(); err != nil {
				return err
			}
		}
		if tokenText == "" {
			return usage("the token is missing: give it with --token-file FILE (- for standard input) or in %s; `havip-cluster node add %s` at a member makes one", envToken, f.name)
		}
		token, err := identity.ParseToken(tokenText)
		if err != nil {
			return asUsage(err)
		}
		if token.Name != f.name {
			return usage("the token is for node %s, not %s; use --node %s or another token", token.Name, f.name, token.Name)
		}
		peer, err := withPort(args[0])
		if err != nil {
			return err
		}
		return g.join(cmd.Context(), f, addr, token, peer)
	})
	f.register(c)
	c.Flags().StringVar(&tokenText, "token", "", "the token that `havip-cluster node add` printed; everybody on this host can read it here: better --token-file or "+envToken)
	return c
}

// join asks a member to be let in, and makes the data directory of what it answers. The
// token works once, so everything that can fail here is looked at before.
func (g *globals) join(ctx context.Context, f nodeFlags, addr netip.Addr, token identity.Token, peer string) error {
	if err := token.CheckExpiry(time.Now()); err != nil {
		return err
	}
	if err := checkVacant(g.dataDir); err != nil {
		return err
	}
	csr, key, err := identity.NewCSR()
	if err != nil {
		return err
	}
	c := api.NewClient(peer, identity.JoinTLS(token.ClusterID, token.Fingerprint))
	defer c.Close()
	c.Timeout, c.Program, c.LeasePort = g.timeout, fsm.VersionWithLevel(programVersion()), f.ports.Lease
	answer, err := c.Join(ctx, api.Join{
		Token: token.Text(), Name: f.name, Advertise: addr.String(),
		APIPort: f.ports.API, RaftPort: f.ports.Raft, GossipPort: f.ports.Gossip, CSR: string(csr),
	})
	if err != nil {
		return err
	}
	spec := identity.Spec{
		Settings: identity.Settings{
			ClusterID: answer.ClusterID, NodeID: answer.NodeID, Name: f.name, Advertise: addr, Ports: f.ports,
			Role: identity.Role(answer.Role), Profile: identity.Profile(answer.Profile),
			Lease: time.Duration(answer.LeaseMS) * time.Millisecond, Created: time.Now().UTC().Truncate(time.Second),
		},
		CACert: []byte(answer.CA), CAKey: []byte(answer.CAKey), Cert: []byte(answer.Certificate), Key: key,
		GossipKey: append(base64.StdEncoding.AppendEncode(nil, answer.GossipKey), '\n'),
	}
	if err := makeNode(g.dataDir, spec, func() error { return agent.Prepare(g.dataDir, answer.Voters) }); err != nil {
		return fmt.Errorf("the cluster let node %s in, but its data directory cannot be made: %w; then run `havip-cluster node remove %s` at a member and begin again with a new token", f.name, err, f.name)
	}
	return g.madeNode(spec.Settings, "node %s joins cluster %s, from %s")
}

// checkVacant refuses a data directory in which identity.Create would fail.
func checkVacant(dir string) error {
	_, err := identity.Load(dir)
	switch {
	case err == nil:
		return fmt.Errorf("%s holds a node already; start it with `havip-cluster agent`, or name another directory with --data-dir", dir)
	case !errors.Is(err, identity.ErrNoState):
		return asUsage(err)
	}
	above := filepath.Clean(dir)
	for {
		_, err := os.Stat(above)
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		above = filepath.Dir(above)
	}
	if err := unix.Access(above, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("%s cannot be made, %s is not writable (%w); run this as root, or name another directory with --data-dir", dir, above, err)
	}
	return nil
}
