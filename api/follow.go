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

// follows reports whether a request asks for a stream.
func follows(r *http.Request) bool {
	return r.Method == http.MethodGet && (r.URL.Path == "/v1/events" || r.URL.Path == "/v1/audit") &&
		(r.URL.Query().Get("follow") == "true" || strings.Contains(r.Header.Get("Accept"), "text/event-stream"))
}

// follow streams events as this node applies them: server-sent events with the Raft index
// as id, so that a reader that comes back with Last-Event-ID misses and repeats nothing.
// The state's own journal is the buffer; a reader that falls behind it gets an event
// "gap". Nothing is queued for a slow reader: when it takes a piece too late it is cut off.
func (s *Server) follow(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/audit" {
		s.followAudit(w, r)
		return
	}
	since, refusal := followStart(r)
	if refusal != nil {
		writeProblem(w, refusal)
		return
	}
	filter, refusal := filterOf(r.URL.Query())
	if refusal != nil {
		writeProblem(w, refusal)
		return
	}
	f := &follower{filter: filter, since: since, ticks: r.URL.Query().Get("ticks") == "true"}
	s.stream(w, r, followRecheck, f.news)
}

// stream sends what news makes of each state, until the reader has gone, is too slow, or may
// read no more, or the server stops. It looks when the state has changed, and after a pause in any case.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, pause time.Duration, news func(*fsm.State) (string, error)) {
	select {
	case s.followers <- struct{}{}:
		defer func() { <-s.followers }()
	default:
		writeProblem(w, problem(http.StatusTooManyRequests, CodeTooMany, "%d event streams are open at this node, at most %d; close one or ask another node", followersMax, followersMax))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := &sender{w: w, out: http.NewResponseController(w), first: true}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	changed, stop := s.Backend.Watch()
	defer stop()
	for {
		st := s.Backend.State()
		if still(r.Context(), st) != nil {
			return
		}
		text, err := news(st)
		if err == nil {
			err = out.send(text, time.Now())
		}
		if err != nil {
			return
		}
		select {
		case <-changed:
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

// follower is one stream of events.
type follower struct {
	filter eventFilter
	since  uint64 // index up to which everything was sent
	ticks  bool   // changes without a line in the journal are told too
}

// news is what is new in the state, as server-sent events.
func (f *follower) news(st *fsm.State) (string, error) {
	var b strings.Builder
	if st.Index <= f.since {
		return "", nil
	}
	if n := len(st.Events); n == fsm.MaxEvents && f.since > 0 && st.Events[0].Index > f.since+1 {
		fmt.Fprintf(&b, "event: gap\ndata: {\"since\":%d,\"until\":%d}\n\n", f.since, st.Events[0].Index)
	}
	for _, e := range eventsSince(st, f.since, f.filter) {
		text, err := json.Marshal(e)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "id: %d\nevent: %s\ndata: %s\n\n", e.Index, e.Kind, text)
	}
	if f.ticks && b.Len() == 0 {
		fmt.Fprintf(&b, "id: %d\nevent: index\ndata: {\"index\":%d}\n\n", st.Index, st.Index)
	}
	f.since = st.Index
	return b.String(), nil
}

// sender is the writing end of one stream.
type sender struct {
	w     http.ResponseWriter
	out   *http.ResponseController
	first bool
	last  time.Time // of the last write
}

// send writes a piece, or a sign of life when there is none and it is time for one.
func (o *sender) send(text string, now time.Time) error {
	if text == "" {
		if !o.first && now.Sub(o.last) < followHeartbeat {
			return nil
		}
		text = ": alive\n\n"
	}
	o.first, o.last = false, now
	if err := o.out.SetWriteDeadline(now.Add(followWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := o.w.Write([]byte(text)); err != nil {
		return err
	}
	if err := o.out.Flush(); err != nil {
		return err
	}
	_ = o.out.SetWriteDeadline(time.Time{}) // HTTP/2 would end an idle stream when it passes
	return nil
}
