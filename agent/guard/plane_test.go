package guard

import (
	"errors"
	"os"
	"testing"
	"time"

	"havip-cluster/failover/plane"
	"havip-cluster/membership/identity"
)

// Where there is no page that the kernel reads, `status` has the host's reason, and not only that there is none.
func TestNoPageSaysWhy(t *testing.T) {
	g := &guard{noPage: os.ErrPermission}
	if _, err := g.openKernel()(plane.Start{}, nil, nil); !errors.Is(err, os.ErrPermission) {
		t.Errorf("no kernel, because of %v", err)
	}
}

// A guard does not begin beside another one's lease plane: not while that one's agent lives, nor when that has died and
// its guard stands still. It waits for one that is about to end.
func TestOneLeasePlane(t *testing.T) {
	dir, _ := dataDir(t)
	release, err := lockPlane(dir, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := lockPlane(dir, 50*time.Millisecond); !errors.Is(err, identity.ErrLocked) || time.Since(start) < 50*time.Millisecond {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	unlock, err := identity.Lock(dir) // an agent
	if err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	if _, err := lockPlane(dir, time.Minute); !errors.Is(err, identity.ErrLocked) || time.Since(start) > 30*time.Second {
		t.Errorf("while an agent lives, after %v: %v", time.Since(start), err)
	}
	unlock()
	time.AfterFunc(50*time.Millisecond, release)
	again, err := lockPlane(dir, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
