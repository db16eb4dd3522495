package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// A clock that differs from the leader's is named with both times, until it agrees.
func TestWallClock(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	there, fails, other := now, error(nil), true
	w := &wallClock{
		leader: func() (fsm.Node, bool) { return fsm.Node{Name: "node-2"}, other },
		ask:    func(context.Context, fsm.Node) (time.Time, error) { return there, fails },
		now:    func() time.Time { return now },
		log:    slog.New(slog.DiscardHandler),
	}
	look := func(wrong bool, what string) {
		t.Helper()
		w.look(t.Context())
		if got := w.Problem(); (got != "") != wrong {
			t.Errorf("%s: %q", what, got)
		}
	}
	look(false, "the same")
	there = now.Add(clockSlip)
	look(false, "as far as it may be")
	there = now.Add(2 * time.Hour)
	look(true, "two hours behind")
	if got := w.Problem(); !strings.Contains(got, "2026-11-29T12:00:00Z") || !strings.Contains(got, "2026-11-29T14:00:00Z") || !strings.Contains(got, "node-2") {
		t.Errorf("not both times: %s", got)
	}
	fails = errors.New("no answer")
	look(true, "no answer")
	fails, there = nil, now.Add(-time.Minute)
	look(true, "a minute ahead")
	fails, there = nil, now
	look(false, "it agrees again")
	fails = fmt.Errorf("api: %w: valid from tomorrow; set the clock", identity.ErrExpired)
	look(true, "so far off that no certificate is valid")
	if got := w.Problem(); !strings.Contains(got, "set the clock") {
		t.Errorf("without the way out: %s", got)
	}
	other = false
	look(false, "it leads itself")
}
