package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"havip-cluster/fsm"
)

type eventsQuery struct {
	Consistency
	Since  uint64 `query:"since" doc:"Only those after this index"`
	HAVIP  string `query:"havip" doc:"Only those of this HAVIP"`
	Kind   string `query:"kind" doc:"Only those of these kinds, with commas between them"`
	Node   string `query:"node" doc:"Only those of this node"`
	From   string `query:"from" doc:"Only those from this time on, such as 2026-11-29T01:00:00Z"`
	Until  string `query:"until" doc:"Only those before this time"`
	Kept   bool   `query:"kept" doc:"Also those that only the files of the asked node still have; not with follow"`
	Ticks  bool   `query:"ticks" doc:"With follow: an event index for each change of the state that the journal has no line about"`
	Follow bool   `query:"follow" doc:"Server-sent events, without end; so does Accept: text/event-stream. Last-Event-ID goes on behind an index"`
}

// eventFilter says which events somebody asked for; what is empty asks for all.
type eventFilter struct {
	havip, node string
	kinds       []string
	from, until time.Time
}

// filterOf reads a filter from a query.
func filterOf(q url.Values) (f eventFilter, refusal *Problem) {
	f.havip, f.node = q.Get("havip"), q.Get("node")
	if kinds := q.Get("kind"); kinds != "" {
		f.kinds = strings.Split(kinds, ",")
	}
	for name, to := range map[string]*time.Time{"from": &f.from, "until": &f.until} {
		text := q.Get(name)
		if text == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return f, problem(http.StatusBadRequest, string(fsm.CodeMalformed), "%s %q is not a time such as 2026-11-29T01:00:00Z", name, short(text))
		}
		*to = t
	}
	return f, nil
}

// named lets a filter name a HAVIP and a node by their ids, too.
func (f eventFilter) named(st *fsm.State) eventFilter {
	if v, ok := st.HAVIPs[f.havip]; ok {
		f.havip = v.Name
	}
	f.node = st.NodeName(f.node)
	return f
}

// takes reports whether an event was asked for.
func (f eventFilter) takes(e fsm.Event) bool {
	return (f.havip == "" || e.HAVIP == f.havip) && (f.node == "" || e.Node == f.node) &&
		(len(f.kinds) == 0 || slices.Contains(f.kinds, e.Kind)) &&
		(f.from.IsZero() || e.At >= f.from.UnixNano()) && (f.until.IsZero() || e.At < f.until.UnixNano())
}

// keptMax bounds an answer with events of files.
const keptMax = 20_000

// listEvents answers a request for the journal.
func (s *Server) listEvents(st *fsm.State, in *eventsQuery) ([]Event, error) {
	f, refusal := filterOf(url.Values{"havip": {in.HAVIP}, "kind": {in.Kind}, "node": {in.Node}, "from": {in.From}, "until": {in.Until}})
	if refusal != nil {
		return nil, refusal
	}
	list := eventsSince(st, in.Since, f)
	if !in.Kept || s.Kept == nil || len(st.Events) == 0 {
		return list, nil
	}
	f = f.named(st)
	first := st.Events[0].Index // the state has the rest
	old, err := s.Kept(func(e fsm.Event) bool { return e.Index > in.Since && e.Index < first && f.takes(e) }, keptMax)
	if err != nil {
		return nil, err
	}
	out := make([]Event, 0, len(old)+len(list))
	for _, e := range old {
		out = append(out, eventView(e))
	}
	return append(out, list...), nil
}

// eventsSince gives the events after an index that a filter takes.
func eventsSince(st *fsm.State, since uint64, f eventFilter) []Event {
	f = f.named(st)
	start, _ := slices.BinarySearchFunc(st.Events, since+1, func(e fsm.Event, index uint64) int {
		return int(int64(e.Index) - int64(index))
	})
	out := []Event{}
	for _, e := range st.Events[start:] {
		if f.takes(e) {
			out = append(out, eventView(e))
		}
	}
	return out
}
