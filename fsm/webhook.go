package fsm

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Bounds of webhooks.
const (
	MaxWebhooks      = 16
	MaxWebhookURL    = 1024 // bytes
	MaxWebhookEvents = 32   // kinds that one names
	MaxWebhookSecret = 256  // bytes; at least MinWebhookSecret, or none
	MinWebhookSecret = 16
)

// Webhook is a place that is told of events, by a POST for each. The leader sends.
type Webhook struct {
	Name   string   `json:"name"` // unique
	URL    string   `json:"url"`
	Events []string `json:"events,omitempty"` // kinds, sorted; none = all
	// Secret is the key of the signature; "" = nothing is signed. It is in the log and in snapshots,
	// because every voter may have to send; no answer and no export has it.
	Secret string `json:"secret,omitempty"`
	// SecretSet is since when it has this secret, Command.At; 0 without one.
	SecretSet int64 `json:"secret_set,omitempty"`

	Created int64  `json:"created"` // Command.At
	By      string `json:"by,omitempty"`
	// Sent is the index up to which every event was taken by the receiver, or given up.
	Sent uint64 `json:"sent"`
	// Failure is why the last try failed, "" if it did not; Failing since when, in unix nanoseconds.
	Failure string `json:"failure,omitempty"`
	Failing int64  `json:"failing,omitempty"`
	Lost    uint64 `json:"lost,omitempty"` // events that were given up
}

// Wants reports whether a webhook is to be told of a kind of event.
func (h Webhook) Wants(kind string) bool {
	return len(h.Events) == 0 || slices.Contains(h.Events, kind)
}

// CreateWebhook makes a webhook, which is told of what happens from then on.
type CreateWebhook struct {
	Name   string   `json:"name"`
	URL    string   `json:"url"`
	Events []string `json:"events,omitempty"`
	Secret string   `json:"secret,omitempty"`
}

// DeleteWebhook forgets one.
type DeleteWebhook struct {
	Name string `json:"name"`
}

// AdvanceWebhook is the leader's word on how far a webhook has come. Sent never goes back.
type AdvanceWebhook struct {
	Name    string `json:"name"`
	Created int64  `json:"created"` // of the one that it is about
	Sent    uint64 `json:"sent"`
	Failure string `json:"failure,omitempty"`
	Lost    uint64 `json:"lost,omitempty"` // in all
}

func (CreateWebhook) kind() string  { return "create-webhook" }
func (DeleteWebhook) kind() string  { return "delete-webhook" }
func (AdvanceWebhook) kind() string { return "advance-webhook" }

// webhookBodies are kinds of level 4.
func webhookBodies() []Body { return []Body{&CreateWebhook{}, &DeleteWebhook{}, &AdvanceWebhook{}} }

// WebhookList returns the webhooks in the order of their names.
func (s *State) WebhookList() []Webhook { return sorted(s.Webhooks) }

// CheckWebhookURL refuses what no webhook can be sent to. Which addresses the name has is seen when
// it is sent.
func CheckWebhookURL(text string) *Refusal {
	u, err := url.Parse(text)
	switch {
	case len(text) > MaxWebhookURL:
		return Refuse(CodeTooLong, "the URL has %d bytes, at most %d", len(text), MaxWebhookURL)
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return Refuse(CodeMalformed, "%q is no URL such as https://hooks.example/x", clip(text, MaxNameRunes))
	case u.User != nil:
		return Refuse(CodeMalformed, "the URL has a user in it, which would be printed; put a secret into --secret-file")
	case u.Fragment != "":
		return Refuse(CodeMalformed, "the URL has a fragment (#%s), which is never sent", clip(u.Fragment, MaxNameRunes))
	}
	return nil
}

// Valid refuses a webhook that cannot be.
func (h Webhook) Valid() *Refusal {
	if len(h.Events) > MaxWebhookEvents {
		return Refuse(CodeLimit, "%d kinds of events, at most %d; none are all", len(h.Events), MaxWebhookEvents)
	}
	if !nodeName.MatchString(h.Name) {
		return Refuse(CodeMalformed, "%q cannot name a webhook: use 1 to 63 lower-case letters, digits, '-' and '.', starting with a letter or digit", clip(h.Name, MaxNameRunes))
	}
	if r := CheckWebhookURL(h.URL); r != nil {
		return r
	}
	for _, kind := range h.Events {
		if kind == "" || len(kind) > MaxStepName || strings.ContainsFunc(kind, func(r rune) bool { return (r < 'a' || r > 'z') && r != '-' }) {
			return Refuse(CodeMalformed, "%q is no kind of event, such as placed or session-closed; `events` shows them", clip(kind, MaxNameRunes))
		}
	}
	if n := len(h.Secret); n != 0 && (n < MinWebhookSecret || n > MaxWebhookSecret) {
		return Refuse(CodeRange, "the secret has %d bytes, %d to %d are possible", n, MinWebhookSecret, MaxWebhookSecret)
	}
	return nil
}

func (s *State) createWebhook(c Command, b CreateWebhook) (string, *Refusal) {
	h := Webhook{Name: b.Name, URL: b.URL, Events: b.Events, Secret: b.Secret, Created: c.At, By: c.principal(), Sent: s.Index}
	h.setSecret(c.At)
	if r := h.Valid(); r != nil {
		return "", r
	}
	h.Events = sortedKinds(b.Events)
	if _, there := s.Webhooks[h.Name]; there {
		return "", Refuse(CodeDuplicate, "a webhook is called %s already; delete it with `webhook delete %s`, or choose another name", h.Name, h.Name)
	}
	if len(s.Webhooks) >= MaxWebhooks {
		return "", Refuse(CodeLimit, "there are %d webhooks, at most %d; delete some", len(s.Webhooks), MaxWebhooks)
	}
	s.Webhooks[h.Name] = h
	s.note(c, "webhook-created", "", "", fmt.Sprintf("webhook %s was made by %s", h.Name, named(h.By)))
	return h.Name, nil
}

func (s *State) deleteWebhook(c Command, b DeleteWebhook) (string, *Refusal) {
	if _, ok := s.Webhooks[b.Name]; !ok {
		return "", Refuse(CodeNotFound, "no webhook is called %q; `webhook list` shows those there are", clip(b.Name, MaxNameRunes))
	}
	delete(s.Webhooks, b.Name)
	s.note(c, "webhook-deleted", "", "", fmt.Sprintf("webhook %s was deleted by %s", b.Name, named(c.principal())))
	return b.Name, nil
}

func (s *State) advanceWebhook(c Command, b AdvanceWebhook) *Refusal {
	h, ok := s.Webhooks[b.Name]
	if !ok || h.Created != b.Created {
		return Refuse(CodeStale, "webhook %s is another one by now", b.Name)
	}
	if b.Sent > s.Index {
		return Refuse(CodeRange, "webhook %s cannot have sent index %d, which is to come", b.Name, b.Sent)
	}
	h.Sent, h.Lost = max(h.Sent, b.Sent), max(h.Lost, b.Lost)
	switch was := h.Failure; {
	case b.Failure == "":
		h.Failing = 0
		if was != "" {
			s.note(c, "webhook", "", "", fmt.Sprintf("webhook %s is taken again", h.Name))
		}
	case was == "":
		h.Failing = c.At
		s.note(c, "webhook", "", "", fmt.Sprintf("webhook %s fails: %s", h.Name, b.Failure))
	}
	h.Failure = clip(b.Failure, MaxReason)
	s.Webhooks[h.Name] = h
	return nil
}

// doWebhooks is do for the commands about webhooks.
func (s *State) doWebhooks(c Command) (object string, refusal *Refusal, known bool) {
	switch b := c.body.(type) {
	case *CreateWebhook:
		object, refusal = s.createWebhook(c, *b)
	case *DeleteWebhook:
		object, refusal = s.deleteWebhook(c, *b)
	case *AdvanceWebhook:
		refusal = s.advanceWebhook(c, *b)
	default:
		return "", nil, false
	}
	return object, refusal, true
}
