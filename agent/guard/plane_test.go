package guard

import (
	"errors"
	"testing"
	"time"

	"havip-cluster/membership/identity"
)

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
