package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"havip-cluster/agent"
	"havip-cluster/agent/guard"
	"havip-cluster/membership/identity"
)

// recovery is what recover prints.
type recovery struct {
	Done       bool      `json:"done"`
	Cluster    string    `json:"cluster"`               // that has lost its majority
	NewCluster string    `json:"new_cluster,omitempty"` // that goes on, once done
	Node       string    `json:"node"`
	Term       uint64    `json:"term"`  // of the newest entry in its log
	Index      uint64    `json:"index"` // of the same
	Written    time.Time `json:"written,omitzero"`
	HAVIPs     int       `json:"havips"`
	Others     []string  `json:"others"`           // names of the other nodes
	Backup     string    `json:"backup,omitempty"` // the old data directory, once done
}

func newRecoverCommand(g *globals) *cobra.Command {
	var off []string
	c := verb("recover", "Go on with this node alone when the majority of the voters is lost for good", none, func(*cobra.Command, []string) error {
		r, err := g.recover(off)
		if err = emitPairs(g, r, err, recovery.pairs); err == nil {
			g.afterRecover(r)
		}
		return err
	})
	c.Long = c.Short + ".\n\n" +
		"Without --off nothing is changed: a trial on a copy of the log says how far it goes. Make it at each\n" +
		"node that is left, with its agent stopped, and recover that with the highest term, among those the\n" +
		"highest index: what its log lacks is lost.\n\n" +
		"The HAVIPs, their ranges and the nodes stay. Cluster id, certificates and keys are new, so that no node\n" +
		"of the old cluster is let in. But old nodes that run, or are started again, may make the old cluster\n" +
		"and serve the same HAVIPs beside this one: their hosts must be off, or their data directories erased,\n" +
		"before this. The old data directory of this node is kept beside the new one."
	c.Flags().StringSliceVar(&off, "off", nil, "names of all other nodes: you have made sure that none of them runs or will start again")
	return c
}

func (r recovery) pairs() []pair {
	out := []pair{
		{"cluster", r.Cluster}, {"node", r.Node}, {"term", fmt.Sprint(r.Term)}, {"index", fmt.Sprint(r.Index)}, {"written", when(r.Written)},
		{"HAVIPs", fmt.Sprint(r.HAVIPs)}, {"other nodes", strings.Join(r.Others, ", ")}, {"done", yesNo(r.Done)},
	}
	if r.Done {
		out = append(out, pair{"new cluster", r.NewCluster}, pair{"backup", r.Backup})
	}
	return out
}

func (g *globals) afterRecover(r recovery) {
	if r.Done {
		g.next("%s, then for each other node: `havip-cluster node remove NAME`; there `havip-cluster agent --cleanup`, and erase the data directory; `havip-cluster node add NAME`, and the join command that this prints", g.self("agent"))
		return
	}
	fmt.Fprintln(g.stderr, "Nothing was changed. Compare term and index with those of the other nodes that are left: what this log lacks is lost.")
	if len(r.Others) > 0 {
		g.next("%s --off %s, when none of these runs or will start again", g.self("recover"), strings.Join(r.Others, ","))
	}
}

// recover tries on a copy, and puts the copy in the place of the data directory when off
// names all other nodes.
func (g *globals) recover(off []string) (r recovery, err error) {
	dir, err := filepath.EvalSymlinks(g.dataDir) // the directory is exchanged, not a link to it
	if err != nil {
		return r, fmt.Errorf("the data directory: %w; name another one with --data-dir", err)
	}
	old, err := identity.LoadSettings(dir)
	if err != nil {
		return r, err
	}
	unlock, err := identity.Lock(dir)
	if err != nil {
		return r, err
	}
	defer unlock()
	spec, err := identity.Succeed(old, time.Now())
	if err != nil {
		return r, err
	}
	if err := exchangeable(dir); err != nil {
		return r, err
	}
	scratch, err := os.MkdirTemp(filepath.Dir(dir), ".recover-*") // on the same file system
	if err != nil {
		return r, fmt.Errorf("a copy of the log is needed beside %s: %w", dir, err)
	}
	defer func() {
		if !r.Done {
			err = errors.Join(err, os.RemoveAll(scratch))
		}
	}()
	got, err := successorIn(scratch, dir, spec)
	if err != nil {
		return r, err
	}
	r = recovery{
		Cluster: old.ClusterID, Node: old.Name, Term: got.Term, Index: got.Index, Written: got.Written.UTC(), HAVIPs: len(got.State.HAVIPs), Others: []string{},
	}
	for _, n := range got.State.NodeList() {
		if n.ID != old.NodeID {
			r.Others = append(r.Others, n.Name)
		}
	}
	if len(off) == 0 {
		return r, nil
	}
	if err := allOff(r.Others, off); err != nil {
		return r, err
	}
	backup := dir + ".lost-" + old.ClusterID
	if _, err := os.Lstat(backup); !errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("%s is there already and would be overwritten; move it away", backup)
	}
	if err := guard.Sweep(dir, slog.New(slog.NewTextHandler(g.stderr, nil)), false); err != nil {
		return r, err
	}
	if err := exchange(scratch, dir); err != nil {
		return r, err
	}
	r.Done, r.NewCluster, r.Backup = true, spec.ClusterID, backup // from here on scratch is the old one
	if err := os.Rename(scratch, backup); err != nil {
		r.Backup = scratch
	}
	return r, syncAll(filepath.Dir(dir))
}

// successorIn makes the data directory of spec, with what the log in dir holds.
func successorIn(scratch, dir string, spec identity.Spec) (agent.Survivor, error) {
	if err := identity.Create(scratch, spec); err != nil {
		return agent.Survivor{}, err
	}
	if err := os.CopyFS(identity.RaftDir(scratch), os.DirFS(identity.RaftDir(dir))); err != nil {
		return agent.Survivor{}, fmt.Errorf("the log cannot be copied: %w", err)
	}
	got, err := agent.Recover(scratch, spec.Settings)
	if err != nil {
		return got, err
	}
	return got, syncAll(scratch)
}

// allOff refuses unless the operator has named each other node, and nobody else.
func allOff(others, off []string) error {
	for _, name := range off {
		if !slices.Contains(others, name) {
			return fmt.Errorf("--off names %q; the other nodes are %s", name, strings.Join(others, ", "))
		}
	}
	for _, name := range others {
		if !slices.Contains(off, name) {
			return fmt.Errorf("--off does not name %s: while it may run, or start again, two nodes could own a HAVIP; switch its host off or erase its data directory, then name it too", name)
		}
	}
	return nil
}

// exchangeable refuses a directory that is a mount point: exchange cannot swap it.
func exchangeable(dir string) error {
	var own, above unix.Stat_t
	if err := errors.Join(unix.Stat(dir, &own), unix.Stat(filepath.Dir(dir), &above)); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if own.Dev != above.Dev {
		return fmt.Errorf("%s is a mount point and cannot be exchanged as a whole; move what is in it into a directory below it, and name that with --data-dir, now and for the agent", dir)
	}
	return nil
}

// exchange swaps two directories in one step, so that dir is never absent or half new.
func exchange(scratch, dir string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, scratch, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("the new data directory cannot take the place of %s: %w", dir, err)
	}
	return nil
}

// syncAll writes the file system of a directory to its disk.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync the file system of %s: %w", dir, err)
	}
	return nil
}
