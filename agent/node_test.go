package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"havip-cluster/api"
	"havip-cluster/membership/identity"
	"havip-cluster/netdev/fence"
)

const (
	inside   = "HAVIP_TEST_INSIDE"
	nodeWait = 30 * time.Second
)

func TestMain(m *testing.M) {
	if !fence.ProofChild() { // else this process only proves a fence
		os.Exit(m.Run())
	}
}

// runsAlone fails if an agent without a guard runs beside the lease plane of a guard that stands still.
func runsAlone(t *testing.T, dir string) {
	t.Helper()
	release, err := identity.LockPlane(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := Run(ctx, Options{Dir: dir}); !errors.Is(err, identity.ErrLocked) {
		t.Errorf("beside another lease plane it ends with %v", err)
	}
}

// TestRun: one call runs a whole node, which founds its cluster, gets a session behind a proved
// fence, and ends with its context. It is played in a network namespace of its own.
func TestRun(t *testing.T) {
	if os.Getenv(inside) == "" {
		insideNamespace(t)
		return
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := dataDir(t)
	if err := Bootstrap(dir); err != nil {
		t.Fatal(err)
	}
	runsAlone(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Dir: dir, Version: "v0-test", Log: slog.New(slog.NewTextHandler(os.Stdout, nil))})
	}()
	client := api.NewLocalClient(identity.SocketPath(dir))
	defer client.Close()
	var st api.Status
	for end := time.Now().Add(nodeWait); ; time.Sleep(20 * time.Millisecond) {
		if st, err = client.Status(ctx, true); err == nil && st.Leader != nil && st.Local.Session != 0 {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("it ended: %v", err)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("no session: %+v, %v", st, err)
		}
	}
	if st.Local.Node != "n1" || st.Local.Version != "v0-test" || !st.Local.FenceProved {
		t.Errorf("the node says of itself: %+v", st.Local)
	}
	leaseIsFollowed(ctx, t, client, dir)
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(nodeWait):
		t.Fatal("it does not end with its context")
	}
	if _, err := os.Stat(identity.SocketPath(dir)); err == nil {
		t.Error("its socket is left")
	}
}

// leaseIsFollowed: the timers of the next start are those of a lease that is set while the node runs.
func leaseIsFollowed(ctx context.Context, t *testing.T, client *api.Client, dir string) {
	t.Helper()
	for _, ms := range []int64{4000, 200} {
		for end := time.Now().Add(nodeWait); ; time.Sleep(100 * time.Millisecond) { // it may have lost its lead for a moment
			_, err := client.UpdateCluster(ctx, api.ClusterChange{LeaseMS: &ms}, true)
			if err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
		lease := time.Duration(ms) * time.Millisecond
		want, err := identity.TimersFor(identity.ProfileLAN, lease)
		if err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(nodeWait); ; time.Sleep(20 * time.Millisecond) {
			id, err := identity.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			if id.Timers() == want {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("lease %v, but the next start has %+v", lease, id.Timers())
			}
		}
	}
}
