package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"havip-cluster/fsm"
)

// follows reports whether a request asks for a stream of events.
func follows(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.Path == "/v1/events" &&
		(r.URL.Query().Get("follow") == "true" || strings.Contains(r.Header.Get("Accept"), "text/event-stream"))
}

// follow streams events as this node applies them: server-sent events with the Raft index
// as id, so that a reader that comes back with Last-Event-ID misses and repeats nothing.
// The state's own journal is the buffer; a reader that falls behind it gets an event
// "gap". Nothing is queued for a slow reader: when it takes a piece too late it is cut off.
func (s *Server) follow(w http.ResponseWriter, r *http.Request) {
	since, refusal := followStart(r)
	if refusal != nil {
		writeProblem(w, refusal)
		return
	}
	select {
	case s.followers <- struct{}{}:
		defer func() { <-s.followers }()
	default:
		writeProblem(w, problem(http.StatusTooManyRequests, CodeTooMany, "%d event streams are open at this node, at most %d; close one or ask another node", followersMax, followersMax))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	f := &follower{w: w, out: http.NewResponseController(w), havip: r.URL.Query().Get("havip"), since: since, first: true}
	tick := time.NewTicker(followPoll)
	defer tick.Stop()
	for {
		if err := f.send(s.Backend.State(), time.Now()); err != nil {
			return // the reader has gone, or is too slow
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-s.stopping:
			return
		}
	}
}

// followStart is the index after which a reader wants to hear.
func followStart(r *http.Request) (uint64, *Problem) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("since")
	}
	if text == "" {
		return 0, nil
	}
	since, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, problem(http.StatusBadRequest, string(fsm.CodeMalformed), "since %q is not an index: use a whole number, such as the index of the last event seen", text)
	}
	return since, nil
}

// follower is one stream.
type follower struct {
	w     http.ResponseWriter
	out   *http.ResponseController
	havip string
	since uint64 // index up to which everything was sent
	first bool
	last  time.Time // of the last write
}

// send writes what is new in the state, or a sign of life when it is time for one.
func (f *follower) send(st *fsm.State, now time.Time) error {
	var b strings.Builder
	if st.Index > f.since {
		if n := len(st.Events); n == fsm.MaxEvents && f.since > 0 && st.Events[0].Index > f.since+1 {
			fmt.Fprintf(&b, "event: gap\ndata: {\"since\":%d,\"until\":%d}\n\n", f.since, st.Events[0].Index)
		}
		for _, e := range eventsSince(st, f.since, f.havip) {
			text, err := json.Marshal(e)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "id: %d\nevent: %s\ndata: %s\n\n", e.Index, e.Kind, text)
		}
		f.since = st.Index
	}
	if b.Len() == 0 {
		if !f.first && now.Sub(f.last) < followHeartbeat {
			return nil
		}
		b.WriteString(": alive\n\n")
	}
	f.first, f.last = false, now
	if err := f.out.SetWriteDeadline(now.Add(followWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := f.w.Write([]byte(b.String())); err != nil {
		return err
	}
	if err := f.out.Flush(); err != nil {
		return err
	}
	_ = f.out.SetWriteDeadline(time.Time{}) // HTTP/2 would end an idle stream when it passes
	return nil
}
