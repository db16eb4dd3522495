package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFollow reads the journal, and then what happens while it is read.
func TestFollow(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var seen []Event
	enough := errors.New("enough")
	err := w.local(1).Follow(ctx, "", func(e Event) error {
		seen = append(seen, e)
		if len(seen) == len(w.log.now().Events) && e.Kind != "havip-created" {
			go w.ask(t, 0, "POST", "/v1/havips", webBody)
		}
		if e.Kind == "havip-created" {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("%v after %d events", err, len(seen))
	}
	want := eventsSince(w.log.now(), 0, eventFilter{})
	if len(seen) != len(want) || !slices.IsSortedFunc(seen, func(a, b Event) int { return int(a.Index) - int(b.Index) }) {
		t.Errorf("saw %d events, the journal has %d", len(seen), len(want))
	}
}

// TestFollowersLimit fills all places of a node, and one more.
func TestFollowersLimit(t *testing.T) {
	w := newWorld(t)
	for range followersMax {
		w.servers[0].followers <- struct{}{}
	}
	resp, answer := w.ask(t, 0, "GET", "/v1/events?follow=true", "")
	if resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
}

// TestFollowGap: a reader that was away for longer than the journal reaches is told.
func TestFollowGap(t *testing.T) {
	w := newWorld(t)
	on := false
	for range 600 { // two events for every change of two words
		on = !on
		both := on
		w.ask(t, 0, "PATCH", "/v1/nodes/node-2", string(mustJSON(NodeChange{Standby: &both, Maintenance: &both})))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stop := errors.New("stop")
	at := cursor{index: 3, seen: 1}
	var first Event
	err := w.local(0).stream(ctx, "", &at, func(e Event) error { first = e; return stop })
	if !errors.Is(err, stop) || first.Kind != "gap" {
		t.Errorf("%v, first %+v", err, first)
	}
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func fieldsOf(t *testing.T, answer []byte) []string {
	t.Helper()
	var one map[string]any
	if strings.HasPrefix(string(answer), "[") {
		var all []map[string]any
		must(t, json.Unmarshal(answer, &all))
		if len(all) > 0 {
			one = all[0]
		}
	} else {
		must(t, json.Unmarshal(answer, &one))
	}
	var names []string
	for k := range one {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

func sortedWords(s string) []string {
	words := strings.Fields(s)
	slices.Sort(words)
	if len(words) == 0 {
		return nil
	}
	return words
}
