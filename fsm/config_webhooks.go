package fsm

import (
	"fmt"
	"slices"
)

// WebhookSpec is a webhook as a configuration names it.
type WebhookSpec struct {
	Name   string   `json:"name"`
	URL    string   `json:"url"`
	Events []string `json:"events,omitempty"` // kinds; none = all
	// Signed says that messages are signed; nil leaves that as it is. True without a Secret asks for the
	// secret that the cluster has, and false forgets it.
	Signed *bool `json:"signed,omitempty"`
	// Secret is the key of the signature; "" keeps the one that is there. No revision has it.
	Secret string `json:"secret,omitempty"`
	// SecretSet is Webhook.SecretSet, so that a new secret is a new revision. Apply does not read it.
	SecretSet int64 `json:"secret_set,omitempty"`
}

// Signed reports whether messages are signed; that is known also where the secret was left out.
func (h Webhook) Signed() bool { return h.Secret != "" || h.SecretSet != 0 }

// WithoutSecrets is the state for those who may read it but not speak for the cluster: what a webhook
// signs with is left out.
func (s *State) WithoutSecrets() *State {
	n := s.clone()
	for name, h := range n.Webhooks {
		h.Secret = ""
		n.Webhooks[name] = h
	}
	return n
}

// configWebhooks makes the webhooks what a configuration says of them. One that is there keeps how far
// it has come, and its secret unless the configuration has another.
func (s *State) configWebhooks(c Command, b ApplyConfig, back *Revision) *Refusal {
	if b.Config.Webhooks == nil {
		return nil
	}
	if n := len(b.Config.Webhooks); n > MaxWebhooks {
		return Refuse(CodeLimit, "the configuration has %d webhooks, at most %d", n, MaxWebhooks)
	}
	named := map[string]bool{}
	for i, want := range b.Config.Webhooks {
		if named[want.Name] {
			return inConfig("webhooks", i, Refuse(CodeDuplicate, "the configuration names webhook %s twice", clip(want.Name, MaxNameRunes)))
		}
		named[want.Name] = true
	}
	if b.Prune {
		for _, h := range s.WebhookList() {
			if !named[h.Name] {
				if _, refusal := s.deleteWebhook(c, DeleteWebhook{h.Name}); refusal != nil {
					return refusal
				}
			}
		}
	}
	for i, want := range b.Config.Webhooks {
		if refusal := s.configWebhook(c, want, back); refusal != nil {
			return inConfig("webhooks", i, refusal)
		}
	}
	return nil
}

func (s *State) configWebhook(c Command, want WebhookSpec, back *Revision) *Refusal {
	old, there := s.Webhooks[want.Name]
	secret, lost := want.Secret, false
	switch unsigned := want.Signed != nil && !*want.Signed; {
	case unsigned && secret != "":
		return Refuse(CodeParameter, "webhook %s has a secret and is not to be signed: leave one of the two out", clip(want.Name, MaxNameRunes))
	case secret == "" && !unsigned:
		secret = old.Secret
		lost = want.Signed != nil && secret == ""
	}
	if lost && back != nil { // it was deleted since, and no revision has a secret
		s.note(c, "webhook", "", "", fmt.Sprintf("webhook %s is not made again: its secret is forgotten; `webhook create %s URL --secret-file FILE` makes it", want.Name, want.Name))
		return nil
	}
	if lost {
		return Refuse(CodeMissing, "webhook %s is to be signed, and the cluster has no secret for it: add the secret to the file, make it with `webhook create NAME URL --secret-file FILE`, or say that it is not signed (signed: false)", clip(want.Name, MaxNameRunes))
	}
	if !there {
		_, refusal := s.createWebhook(c, CreateWebhook{Name: want.Name, URL: want.URL, Events: want.Events, Secret: secret})
		return refusal
	}
	h := old
	h.URL, h.Events, h.Secret = want.URL, want.Events, secret
	if refusal := h.Valid(); refusal != nil {
		return refusal
	}
	h.Events = sortedKinds(want.Events)
	if h.Secret != old.Secret {
		h.setSecret(c.At)
	}
	if h.URL != old.URL { // what failed was another receiver
		h.Failure, h.Failing = "", 0
	}
	s.Webhooks[h.Name] = h
	return nil
}

// sortedKinds are kinds of events, each once; nil for none.
func sortedKinds(kinds []string) []string {
	if len(kinds) == 0 {
		return nil
	}
	return slices.Compact(slices.Sorted(slices.Values(kinds)))
}

// setSecret notes since when the webhook has its secret; another one is later, whatever the clock says.
func (h *Webhook) setSecret(at int64) {
	if h.SecretSet = max(at, h.SecretSet+1); h.Secret == "" {
		h.SecretSet = 0
	}
}

// configuredWebhooks are the webhooks as a configuration names them, without their secrets.
func (s *State) configuredWebhooks() []WebhookSpec {
	out := []WebhookSpec{}
	for _, h := range s.WebhookList() {
		signed := h.Signed()
		out = append(out, WebhookSpec{Name: h.Name, URL: h.URL, Events: h.Events, Signed: &signed, SecretSet: h.SecretSet})
	}
	return out
}
