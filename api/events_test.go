package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"havip-cluster/fsm"
)

// TestEventsReach64Watchers measures the time from a commit until each of 64 watchers has its event.
// It asserts that all of them get all, each once and in order; the times are printed.
func TestEventsReach64Watchers(t *testing.T) { eventsReachWatchers(t, newWorld(t)) }

// TestEventsOfManyHAVIPsReach64Watchers is the same with as many HAVIPs as there may be.
func TestEventsOfManyHAVIPsReach64Watchers(t *testing.T) {
	sized(t)
	eventsReachWatchers(t, sizedWorld(t))
}

func eventsReachWatchers(t *testing.T, w *world) {
	t.Helper()
	const watchers, commits = followersMax, 100
	since := w.log.now().Index
	var mu sync.Mutex
	committed := map[uint64]time.Time{}
	var took []time.Duration
	var ready, all sync.WaitGroup
	ready.Add(watchers)
	for i := range watchers {
		all.Go(func() {
			c := w.local(i % len(w.nodes))
			at := cursor{index: since + 1}
			seen, last := 0, uint64(0)
			begun := sync.OnceFunc(ready.Done)
			defer begun() // a watcher that never began shall not be waited for
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			first := true
			take := func(e Event) error {
				if e.Kind != "fault" {
					return nil
				}
				now := time.Now()
				if first {
					first = false
					begun()
					return nil
				}
				mu.Lock()
				took = append(took, now.Sub(committed[e.Index]))
				mu.Unlock()
				if seen++; e.Index <= last {
					t.Errorf("event %d after %d", e.Index, last)
				}
				if last = e.Index; seen == commits {
					return errStop
				}
				return nil
			}
			var err error
			for seen < commits && ctx.Err() == nil { // again where a busy host was late with its first answer
				err = c.stream(ctx, "", &at, take)
			}
			if seen != commits {
				t.Errorf("a watcher saw %d of %d: %v", seen, commits, err)
			}
		})
	}
	commit := func(i int) {
		mu.Lock()
		committed[w.log.now().Index+1] = time.Now()
		mu.Unlock()
		w.log.apply(t, fsm.ReportEvent{Node: w.nodes[0].Self(), Kind: "fault", Text: fmt.Sprint(i)}, "")
	}
	commit(-1)
	ready.Wait()
	for i := range commits {
		commit(i)
		time.Sleep(10 * time.Millisecond)
	}
	all.Wait()
	slices.Sort(took)
	if n := len(took); n > 0 {
		t.Logf("%d events to %d watchers: median %v, p99 %v, longest %v", commits, watchers, took[n/2], took[n*99/100], took[n-1])
	}
}

var errStop = fmt.Errorf("enough")

// TestEventsSayWhatChanged: an update's event has the old and the new value of each field, and filters
// by kind, node, HAVIP and time find it at the server.
func TestEventsSayWhatChanged(t *testing.T) {
	w := newWorld(t)
	w.ask(t, 0, "POST", "/v1/havips", webBody)
	start := time.Now()
	w.ask(t, 0, "PATCH", "/v1/havips/web", `{"priority":7}`)
	get := func(q url.Values) (out []Event) {
		t.Helper()
		resp, body := w.ask(t, 1, "GET", "/v1/events?"+q.Encode(), "")
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
		must(t, json.Unmarshal(body, &out))
		return out
	}
	list := get(url.Values{"havip": {"web"}, "kind": {"havip-changed,placed"}, "from": {start.Format(time.RFC3339Nano)}})
	found := slices.ContainsFunc(list, func(e Event) bool {
		return slices.Contains(e.Fields, FieldChange{Field: "priority", New: "7"}) || slices.Contains(e.Fields, FieldChange{Field: "priority", Old: "0", New: "7"})
	})
	if !found {
		t.Errorf("no event tells of the priority: %+v", get(url.Values{}))
	}
	if n := len(get(url.Values{"until": {start.Format(time.RFC3339Nano)}, "kind": {"havip-changed"}})); n != 0 {
		t.Errorf("%d updates before the first one", n)
	}
	if n := len(get(url.Values{"node": {"nobody"}})); n != 0 {
		t.Errorf("%d events of nobody", n)
	}
	if resp, _ := w.ask(t, 0, "GET", "/v1/events?from=yesterday", ""); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("from=yesterday is %d", resp.StatusCode)
	}
}
