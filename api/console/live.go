package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"havip-cluster/api"
)

// Limits of a live page.
const (
	liveLine  = 64 << 10              // bytes of a line of the API's stream
	livePause = 50 * time.Millisecond // between two words to a page: what comes meanwhile is told together
	liveTick  = 2 * time.Second       // between two words about what has no place in the log, such as leases
	liveWrite = 10 * time.Second      // for one word to be taken
	liveSays  = 200                   // characters of what is read out
	liveQueue = 64                    // events that wait to be told; the stream's reader waits beyond that
	// liveOld is how many streams a session has over HTTP/1.1, where a browser opens six connections to a host and a
	// stream keeps one: a seventh page would not even be asked for. Pages beyond it look every 8 s.
	liveOld  = 4
	liveRoom = time.Second // for a place among them
)

// Topics of a page.
const (
	topicHAVIPs    = "havips"
	topicNodes     = "nodes"
	topicFailovers = "failovers"
	topicEvents    = "events"
	topicConfig    = "config"
	topicClock     = "clock" // every liveTick
)

var everyTopic = []string{topicHAVIPs, topicNodes, topicFailovers, topicEvents, topicConfig}

// topicsOf says what an event of the journal changes. A kind that is not here, of a newer API, may change
// anything.
func topicsOf(kind string) []string {
	switch kind {
	case "index": // a change without a line in the journal: who serves, how a failover went
		return []string{topicHAVIPs, topicFailovers, topicNodes}
	case "havip-created", "havip-changed", "havip-deleted", "eip", "gave-up", "failure", "failures-cleared", "conflict", "fault":
		return []string{topicHAVIPs, topicEvents}
	case "placed":
		return []string{topicHAVIPs, topicNodes, topicFailovers, topicEvents}
	case "session-opened", "session-closed", "session-draining", "node-added", "node-removed", "node-changed", "health", "drain", "eni", "behind":
		return []string{topicNodes, topicHAVIPs, topicEvents}
	case "group-created", "group-deleted", "check", "check-created", "check-changed", "check-deleted", "check-everywhere",
		"subnet-created", "subnet-deleted", "token-created", "token-revoked", "keys", "key", "webhook", "webhook-created", "webhook-deleted":
		return []string{topicConfig, topicEvents}
	}
	return everyTopic
}

// spoken are the kinds that are read out: what an operator would want to hear of while he looks elsewhere.
var spoken = map[string]bool{"placed": true, "session-closed": true, "session-opened": true, "gave-up": true, "conflict": true, "fault": true, "check-everywhere": true}

// live tells a page which of its parts have changed, and at which index: it then asks for itself again.
// The API's own stream of events is what it hears. When that ends, so does this, and the browser comes back.
func (c *Console) live(w http.ResponseWriter, r *http.Request) {
	one, ok := c.session(r)
	if !ok {
		c.toLogin(w, r)
		return
	}
	if r.ProtoMajor < 2 {
		leave, ok := c.sessions.stream(r.Context(), c.secret(r))
		if !ok {
			http.Error(w, "this browser has as many pages open that are told of changes as it has connections for", http.StatusTooManyRequests)
			return
		}
		defer leave()
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	a := &asker{api: c.API, token: one.token}
	heard := make(chan api.Event, liveQueue)
	stream, err := a.events(ctx, since(r))
	if err != nil {
		http.Error(w, asProblem(err).Detail, asProblem(err).Status)
		return
	}
	defer stream.Body.Close()
	go func() { // ends with the stream's body, or with ctx
		defer close(heard)
		listen(ctx, stream, heard)
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	t := notifier{out: w, control: http.NewResponseController(w), topics: map[string]bool{}}
	t.run(ctx, heard, func() bool { _, on := c.session(r); return on })
}

// since is the index after which a page wants to hear: that of its last word, or of the page itself.
func since(r *http.Request) uint64 {
	for _, text := range []string{r.Header.Get("Last-Event-ID"), r.URL.Query().Get("since")} {
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			return n
		}
	}
	return 0
}

// events opens the API's stream.
func (a *asker) events(ctx context.Context, since uint64) (*http.Response, error) {
	q := url.Values{"follow": {"true"}, "ticks": {"true"}, "since": {strconv.FormatUint(since, 10)}}
	resp, err := a.open(ctx, question{method: http.MethodGet, path: "/v1/events", query: q}, 0)
	if err != nil {
		return nil, unreachable(err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text := make([]byte, liveLine)
		n, _ := resp.Body.Read(text)
		return nil, problemOf(resp.StatusCode, text[:n])
	}
	return resp, nil
}

// listen reads server-sent events until they end.
func listen(ctx context.Context, stream *http.Response, heard chan<- api.Event) {
	lines := bufio.NewScanner(stream.Body)
	lines.Buffer(nil, liveLine)
	kind := ""
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			kind = value
		case "data":
			e := api.Event{}
			if json.Unmarshal([]byte(value), &e) != nil {
				e = api.Event{}
			}
			e.Kind = kind
			select {
			case heard <- e:
			case <-ctx.Done():
				return
			}
		}
	}
}

// notifier gathers what has changed and sends it: the first at once, what follows within livePause together.
type notifier struct {
	out     http.ResponseWriter
	control *http.ResponseController
	topics  map[string]bool
	index   uint64
	say     string
}

func (t *notifier) run(ctx context.Context, heard <-chan api.Event, on func() bool) {
	tick := time.NewTicker(liveTick)
	defer tick.Stop()
	var later <-chan time.Time // when the next word may be said; nil: now
	if t.write(": here\n\n") != nil {
		return
	}
	for {
		due := false
		select {
		case e, ok := <-heard:
			if !ok {
				return
			}
			t.add(e)
			due = later == nil
		case <-later:
			later, due = nil, true
		case <-tick.C:
			if !on() {
				return
			}
			t.topics[topicClock] = true
			due = later == nil
		case <-ctx.Done():
			return
		}
		if !due || len(t.topics) == 0 {
			continue
		}
		if t.write(t.render()) != nil {
			return
		}
		later = time.After(livePause)
	}
}

func (t *notifier) add(e api.Event) {
	for _, topic := range topicsOf(e.Kind) {
		t.topics[topic] = true
	}
	t.index = max(t.index, e.Index)
	if spoken[e.Kind] && e.Text != "" {
		text := e.Text
		if e.HAVIP != "" {
			text = "HAVIP " + e.HAVIP + ": " + text
		} else if e.Node != "" {
			text = "Node " + e.Node + ": " + text
		}
		t.say = string([]rune(text)[:min(liveSays, len([]rune(text)))])
	}
}

// render is what has been heard since the last ones, as server-sent events.
func (t *notifier) render() string {
	var b strings.Builder
	if t.index > 0 {
		fmt.Fprintf(&b, "id: %d\n", t.index)
	}
	fmt.Fprintf(&b, "event: changed\ndata: %d %s\n\n", t.index, strings.Join(slices.Sorted(maps.Keys(t.topics)), " "))
	if t.say != "" {
		said, _ := json.Marshal(t.say) // one line, whatever is in it
		fmt.Fprintf(&b, "event: said\ndata: %s\n\n", said)
	}
	clear(t.topics)
	t.say = ""
	return b.String()
}

func (t *notifier) write(text string) error {
	if err := t.control.SetWriteDeadline(time.Now().Add(liveWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := t.out.Write([]byte(text)); err != nil {
		return err
	}
	if err := t.control.Flush(); err != nil {
		return err
	}
	_ = t.control.SetWriteDeadline(time.Time{})
	return nil
}
