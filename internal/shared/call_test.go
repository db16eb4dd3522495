package shared

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"havip-cluster/testbed/labtest"
)

// TestWhoComesTogetherSharesAnAnswer: a thousand at once cause two questions, because those who came
// while the first was under way are not answered by it.
func TestWhoComesTogetherSharesAnAnswer(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		var c Call[int]
		asked := 0
		ask := func() (int, error) { asked++; time.Sleep(time.Second); return asked, nil }
		got := map[int]int{}
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				n, err := c.Do(t.Context(), ask)
				mu.Lock()
				defer mu.Unlock()
				if got[n]++; err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if asked != 2 || got[1] != 1 || got[2] != 999 {
			t.Errorf("%d questions, answers %v", asked, got)
		}
	})
}

// TestAnEarlierAnswerDoesNotCount: it may be about what was before.
func TestAnEarlierAnswerDoesNotCount(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		var c Call[time.Time]
		ask := func() (time.Time, error) { at := time.Now(); time.Sleep(time.Second); return at, nil }
		go func() { _, _ = c.Do(t.Context(), ask) }()
		time.Sleep(time.Second / 2)
		came := time.Now()
		if asked, err := c.Do(t.Context(), ask); err != nil || asked.Before(came) {
			t.Errorf("came at %s, the question is of %s: %v", came, asked, err)
		}
	})
}

// TestWaitingEndsWithTheContext: and what was asked goes on for the others.
func TestWaitingEndsWithTheContext(t *testing.T) {
	labtest.Bubble(t, func(t *testing.T) {
		var c Call[int]
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var other sync.WaitGroup
		if _, err := c.Do(ctx, func() (int, error) { time.Sleep(time.Minute); return 1, nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		failed := errors.New("no")
		other.Go(func() {
			if _, err := c.Do(t.Context(), func() (int, error) { return 0, failed }); !errors.Is(err, failed) {
				t.Errorf("got %v", err)
			}
		})
		other.Wait()
	})
}
