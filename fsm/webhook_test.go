package fsm

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// webhookDraws draws the commands about webhooks.
func (c chooser) webhookDraws() map[string]func() Body {
	name := func() string {
		return pick(c, "webhook", append(slices.Sorted(maps.Keys(c.s.Webhooks)), "ops", "all", "x y"))
	}
	return map[string]func() Body{
		"create-webhook": func() Body {
			return CreateWebhook{Name: name(), URL: pick(c, "url", []string{"https://hooks.example/x", "https://hooks.example/y", "http://hooks.example/", "ftp://x"}), Secret: pick(c, "secret", []string{"", "0123456789abcdef", "abcdef0123456789", "short"})}
		},
		"delete-webhook": func() Body { return DeleteWebhook{name()} },
		"advance-webhook": func() Body {
			n := name()
			if there := slices.Sorted(maps.Keys(c.s.Webhooks)); len(there) > 0 && c.flag() { // there are few at a time
				n = there[0]
			}
			return AdvanceWebhook{Name: n, Created: c.s.Webhooks[n].Created, Sent: c.s.Index - 2 + uint64(c.number("sent", 0, 4)), Failure: pick(c, "failure", []string{"", "500"})}
		},
	}
}

func TestWebhookRefusals(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	long := strings.Repeat("x", MaxWebhookURL)
	for _, c := range []struct {
		body Body
		code Code
		says string
	}{
		{CreateWebhook{Name: "Ops!", URL: "https://h.example/"}, CodeMalformed, "cannot name"},
		{CreateWebhook{Name: "ops", URL: "h.example"}, CodeMalformed, "https://hooks.example/x"},
		{CreateWebhook{Name: "ops", URL: "file:///etc/passwd"}, CodeMalformed, "no URL"},
		{CreateWebhook{Name: "ops", URL: "https://me:secret@h.example/"}, CodeMalformed, "--secret-file"},
		{CreateWebhook{Name: "ops", URL: "https://h.example/#x"}, CodeMalformed, "fragment"},
		{CreateWebhook{Name: "ops", URL: "https://h.example/" + long}, CodeTooLong, "at most"},
		{CreateWebhook{Name: "ops", URL: "https://h.example/", Events: []string{"Placed"}}, CodeMalformed, "no kind of event"},
		{CreateWebhook{Name: "ops", URL: "https://h.example/", Events: make([]string, MaxWebhookEvents+1)}, CodeLimit, "at most"},
		{CreateWebhook{Name: "ops", URL: "https://h.example/", Secret: "short"}, CodeRange, "16 to 256"},
		{DeleteWebhook{"ops"}, CodeNotFound, "webhook list"},
		{AdvanceWebhook{Name: "ops"}, CodeStale, "another one"},
	} {
		res := w.try(c.body)
		if res.Refusal == nil || res.Refusal.Code != c.code || !strings.Contains(res.Refusal.Message, c.says) {
			t.Errorf("%+v: %v, want %s %q", c.body, res.Refusal, c.code, c.says)
		}
	}
	w.must(CreateWebhook{Name: "ops", URL: "https://h.example/"})
	if res := w.try(CreateWebhook{Name: "ops", URL: "https://h.example/"}); res.Refusal == nil || res.Refusal.Code != CodeDuplicate {
		t.Errorf("twice: %v", res.Refusal)
	}
	for i := range MaxWebhooks - 1 {
		w.must(CreateWebhook{Name: "w" + string(rune('a'+i)), URL: "https://h.example/"})
	}
	if res := w.try(CreateWebhook{Name: "more", URL: "https://h.example/"}); res.Refusal == nil || res.Refusal.Code != CodeLimit {
		t.Errorf("one too many: %v", res.Refusal)
	}
	h := w.state.Webhooks["ops"]
	if res := w.try(AdvanceWebhook{Name: "ops", Created: h.Created, Sent: w.state.Index + 9}); res.Refusal == nil || res.Refusal.Code != CodeRange {
		t.Errorf("ahead of the log: %v", res.Refusal)
	}
}

// A position never goes back, and what a deleted webhook had sent says nothing of one with its name.
func TestWebhookAdvances(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	w.must(CreateWebhook{Name: "ops", URL: "https://h.example/", Events: []string{"placed", "eni", "placed"}})
	h := w.state.Webhooks["ops"]
	if h.Sent != w.state.Index || !slices.Equal(h.Events, []string{"eni", "placed"}) || h.Wants("level") || !h.Wants("eni") {
		t.Errorf("%+v", h)
	}
	at := w.state.Index
	w.must(AdvanceWebhook{Name: "ops", Created: h.Created, Sent: at, Failure: "503"})
	w.must(AdvanceWebhook{Name: "ops", Created: h.Created, Sent: at - 1, Lost: 2})
	if h := w.state.Webhooks["ops"]; h.Sent != at || h.Failure != "" || h.Failing != 0 || h.Lost != 2 {
		t.Errorf("%+v", h)
	}
	w.must(DeleteWebhook{"ops"})
	w.at += int64(time.Second)
	w.must(CreateWebhook{Name: "ops", URL: "https://h.example/"})
	if res := w.try(AdvanceWebhook{Name: "ops", Created: h.Created, Sent: at}); res.Refusal == nil || res.Refusal.Code != CodeStale {
		t.Errorf("of one before: %v", res.Refusal)
	}
}

// talesStory has every command and field of webhooks, timelines and events of level 4.
func talesStory(t testing.TB) *world {
	w := trio(t)
	w.upgrade4()
	w.must(CreateWebhook{Name: "ops", URL: "https://h.example/x", Events: []string{"placed"}, Secret: "0123456789abcdef"})
	h := w.state.Webhooks["ops"]
	w.must(CreateWebhook{Name: "gone", URL: "http://h.example/"})
	w.must(DeleteWebhook{"gone"})
	w.must(AdvanceWebhook{Name: "ops", Created: h.Created, Sent: w.state.Index, Failure: "503", Lost: 1})
	w.must(CreateHAVIP{Name: "web", IP: addr("10.0.0.100")})
	w.guarded()
	w.place("web", "n1/eth0")
	w.must(UpdateHAVIP{ID: w.get("web").ID, Change: Change{Priority: ptr(7)}})
	for i := range 8 { // a golden log has some length
		w.must(UpdateNode{ID: nodeID("n2"), Score: ptr(i)})
	}
	f := Failover{
		HAVIP: "web", Epoch: 1, To: "n1/eth0", At: w.at, Kind: ChangeFirst, Reason: "the only one", Leader: "n2",
		Steps:  []FailoverStep{{What: "known", Step: StepNoticed, Node: "n2"}, {What: "committed", After: time.Millisecond, Step: StepCommitted, Node: "n2"}},
		Clocks: []ClockOffset{{Node: "n1", Offset: -time.Hour, Bound: time.Millisecond}},
	}
	w.must(RecordFailovers{[]Failover{f}})
	f.To = "n3/eth0"
	w.must(RecordFailover{f})
	w.must(RecordFailover{f}) // is there already
	return w
}

func TestGoldenTales(t *testing.T) {
	w := talesStory(t)
	if n := len(w.state.Failovers); n != 2 {
		t.Errorf("%d timelines", n)
	}
	goldenStory(t, w, "tales", "about webhooks and timelines", kindsOfWebhooks...)
}

// What a command changed is in its event: the old and the new value of each field, and nothing else.
func TestEventFields(t *testing.T) {
	w := talesStory(t)
	got := map[string][]FieldChange{}
	for _, e := range w.state.Events {
		if len(e.Fields) > 0 {
			got[e.Kind] = e.Fields
		}
	}
	for kind, want := range map[string][]FieldChange{
		"havip-changed": {{"priority", "", "7"}},
		"placed":        {{"eni", `""`, `"n1/eth0"`}, {"epoch", "0", "1"}},
	} {
		if !slices.Equal(got[kind], want) {
			t.Errorf("%s: %v, want %v", kind, got[kind], want)
		}
	}
}
