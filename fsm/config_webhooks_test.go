package fsm

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

const (
	firstSecret  = "first-secret-0123456789"
	secondSecret = "second-secret-0123456789"
)

// hooked applies webhooks alone.
func hooked(w *world, prune bool, list ...WebhookSpec) {
	w.t.Helper()
	w.must(ApplyConfig{Config: Config{Webhooks: list}, Prune: prune})
}

// A configuration makes and changes webhooks; one without a secret keeps the one that is there, and
// neither the configuration nor a revision nor the state for viewers has it.
func TestWebhookConfig(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	url := "https://h.example/x"
	hooked(w, false, WebhookSpec{Name: "ops", URL: url, Events: []string{"placed", "eni", "placed"}, Secret: firstSecret}, WebhookSpec{Name: "all", URL: url})
	made := w.state.Webhooks["ops"]
	if made.Secret != firstSecret || made.SecretSet != made.Created || !slices.Equal(made.Events, []string{"eni", "placed"}) || made.Sent == 0 {
		t.Fatalf("%+v", made)
	}
	w.must(AdvanceWebhook{Name: "ops", Created: made.Created, Sent: w.state.Index, Failure: "503"})

	first := w.state.Cluster.Revision
	w.must(ApplyConfig{Config: w.state.DesiredConfig(), Prune: true})
	if w.state.Cluster.Revision != first || w.state.Webhooks["ops"].Failure != "503" {
		t.Errorf("applying what is there made revision %d, %+v", w.state.Cluster.Revision, w.state.Webhooks["ops"])
	}
	hooked(w, false, WebhookSpec{Name: "ops", URL: url + "y"}) // no word of the signature
	if h := w.state.Webhooks["ops"]; h.Secret != firstSecret || h.URL != url+"y" || h.Events != nil || h.Failure != "" || h.Failing != 0 || h.Sent < made.Sent {
		t.Errorf("%+v", h)
	}
	second := w.state.Cluster.Revision
	hooked(w, false, WebhookSpec{Name: "ops", URL: url + "y", Secret: secondSecret})
	if h := w.state.Webhooks["ops"]; h.Secret != secondSecret || h.SecretSet <= made.SecretSet || w.state.Cluster.Revision != second+1 {
		t.Errorf("a new secret alone: revision %d, %+v", w.state.Cluster.Revision, h)
	}
	for _, r := range w.state.Revisions {
		if bytes.Contains(r.Config, []byte("-secret-")) {
			t.Errorf("revision %d has a secret", r.Number)
		}
	}
	if raw := snapshot(t, w.state.WithoutSecrets()); bytes.Contains(raw, []byte(secondSecret)) || !bytes.Contains(snapshot(t, w.state), []byte(secondSecret)) {
		t.Error("the state without secrets has one, or that with them has none")
	}
	hooked(w, true, WebhookSpec{Name: "ops", URL: url, Signed: ptr(false)})
	if h := w.state.Webhooks["ops"]; len(w.state.Webhooks) != 1 || h.Signed() {
		t.Errorf("pruned, and not signed any more: %+v", w.state.Webhooks)
	}
	// The secret is gone, so a revision with a signed webhook cannot make it sign again.
	w.must(Rollback{To: second})
	if h := w.state.Webhooks["ops"]; h.URL != url || !w.hasEvent("webhook", "is not made again") {
		t.Errorf("%+v, events %v", h, w.state.Events)
	}
}

func TestWebhookConfigRefusals(t *testing.T) {
	w := trio(t)
	w.upgrade4()
	good := WebhookSpec{Name: "ops", URL: "https://h.example/"}
	with := func(change func(*WebhookSpec)) []WebhookSpec {
		h := good
		change(&h)
		return []WebhookSpec{h}
	}
	for _, c := range []struct {
		list []WebhookSpec
		code Code
		says string
	}{
		{[]WebhookSpec{good, good}, CodeDuplicate, "webhooks[1]"},
		{with(func(h *WebhookSpec) { h.Signed = ptr(true) }), CodeMissing, "add the secret"},
		{with(func(h *WebhookSpec) { h.Signed, h.Secret = ptr(false), firstSecret }), CodeParameter, "leave one of the two out"},
		{with(func(h *WebhookSpec) { h.Secret = "short" }), CodeRange, "16 to 256"},
		{with(func(h *WebhookSpec) { h.URL = "ftp://x" }), CodeMalformed, "webhooks[0]"},
		{slices.Repeat([]WebhookSpec{good}, MaxWebhooks+1), CodeLimit, "at most 16"},
	} {
		if res := w.try(ApplyConfig{Config: Config{Webhooks: c.list}}); res.Refusal == nil || res.Refusal.Code != c.code || !strings.Contains(res.Refusal.Message, c.says) {
			t.Errorf("%+v: %v, want %s with %q", c.list, res.Refusal, c.code, c.says)
		} else if strings.Contains(res.Refusal.Message, firstSecret) || strings.Contains(res.Refusal.Message, "short") {
			t.Errorf("a secret is shown: %s", res.Refusal)
		}
	}
	if len(w.state.Webhooks) != 0 {
		t.Errorf("refused, and done: %v", w.state.Webhooks)
	}
	hooked(w, false, good)
	if res := w.try(ApplyConfig{Config: Config{Webhooks: with(func(h *WebhookSpec) { h.URL = "ftp://x" })}}); res.Refusal == nil {
		t.Error("a webhook that is there is changed to one that cannot be")
	}
}

// A cluster in which a member does not read level 4 says nothing of webhooks and takes none.
func TestWebhookConfigNeedsItsLevel(t *testing.T) {
	w := trio(t)
	if cfg := w.state.DesiredConfig(); cfg.Webhooks != nil {
		t.Errorf("%+v", cfg.Webhooks)
	}
	w.refuses(ApplyConfig{Config: Config{Webhooks: []WebhookSpec{{Name: "ops", URL: "https://h.example/"}}}}, CodeLevel, "level 4")
}
