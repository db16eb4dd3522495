package fence

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// prove proves a hook, again where the machine was too slow.
func prove(hook string) (p Proof, err error) {
	for range 5 {
		if p, err = Prove(context.Background(), Config{}, hook); !errors.Is(err, errTooSlow) {
			break
		}
	}
	return p, err
}

// TestProve proves each hook, leaves nothing, and is quick.
func TestProve(t *testing.T) {
	eachKind(t, func(w *world) {
		w.kernelHas()
		before, err := netlink.LinkList()
		w.must("links", err)
		hook := w.hook
		if hook == "" {
			hook = HookNFTables
		}
		for range 3 {
			p, err := prove(hook)
			w.must("prove", err)
			if p.Kind != w.kind || p.Hook != hook || !p.Scratch {
				w.t.Errorf("proof %+v", p)
			}
			w.t.Log(p)
		}
		after, err := netlink.LinkList()
		w.must("links", err)
		found, err := Find("")
		w.must("find", err)
		if len(after) != len(before) || len(found) != 0 {
			w.t.Errorf("%d links and %d fences are left", len(after)-len(before), len(found))
		}
		cfg := w.config()
		cfg.Prove = true
		start := time.Now()
		f, why, err := New(cfg)
		w.must("New", err)
		w.t.Logf("%s, %v", why, time.Since(start))
		if f.Hook() != hook || !strings.Contains(why, "proved") {
			w.t.Errorf("hook %s: %s", f.Hook(), why)
		}
		w.must("uninstall", f.Uninstall())
	})
}

func TestProveNeedsMain(t *testing.T) {
	asked.Store(false)
	defer asked.Store(true)
	if _, err := Prove(context.Background(), Config{}, HookTCX); !errors.Is(err, ErrNotProved) {
		t.Errorf("%v, want ErrNotProved", err)
	}
}
