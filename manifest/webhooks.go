package manifest

import (
	"slices"

	"havip-cluster/fsm"
)

// Webhook is a program that is told of events. Its secret is in no export: a file without one leaves
// the secret that the cluster has.
type Webhook struct {
	Name   string   `m:"name"`
	URL    string   `m:"url"`
	Events []string `m:"events,omit"` // kinds; none = all
	// Signed is true for one with a secret. Absent leaves it as it is, and false forgets the secret.
	Signed *bool  `m:"signed"`
	Secret string `m:"secret,omit"` // apply only
	// SecretSet is since when it has its secret (RFC 3339). Export only.
	SecretSet string `m:"secret_set,omit"`
}

// fromWebhooks exports the webhooks.
func fromWebhooks(s *fsm.State) []Webhook {
	out := []Webhook{}
	for _, h := range s.WebhookList() {
		signed := h.Signed()
		out = append(out, Webhook{Name: h.Name, URL: h.URL, Events: h.Events, Signed: &signed, SecretSet: moment(h.SecretSet)})
	}
	return out
}

// webhooksConfig is the desired part; nil says nothing of webhooks.
func webhooksConfig(list []Webhook) []fsm.WebhookSpec {
	if list == nil {
		return nil
	}
	out := []fsm.WebhookSpec{}
	for _, h := range list {
		out = append(out, fsm.WebhookSpec{Name: h.Name, URL: h.URL, Events: h.Events, Signed: h.Signed, Secret: h.Secret})
	}
	return out
}

// hidden are webhooks without their secrets, for what is printed.
func hidden(list []Webhook) []Webhook {
	out := slices.Clone(list)
	for i := range out {
		out[i].Secret = ""
	}
	return out
}

// webhooks checks the webhooks. What is wrong with a secret is said without it.
func (c *checker) webhooks() {
	c.atMost("webhooks", len(c.m.Webhooks), fsm.MaxWebhooks, "webhooks")
	names := map[string]int{}
	for i, h := range c.m.Webhooks {
		path := at("webhooks", i)
		if first, twice := names[h.Name]; twice {
			c.refuse(at(path, "name"), fsm.CodeDuplicate, "webhook %s is here twice; first as webhooks[%d]", clip(h.Name, 60), first)
		}
		names[h.Name] = i
		if refusal := (fsm.Webhook{Name: h.Name, URL: h.URL, Events: h.Events, Secret: h.Secret}).Valid(); refusal != nil {
			c.refuse(path, refusal.Code, "%s", refusal.Message)
		}
		if h.Secret != "" && h.Signed != nil && !*h.Signed {
			c.refuse(at(path, "signed"), fsm.CodeParameter, "a webhook with a secret is signed: leave one of the two out")
		}
		if h.SecretSet != "" && nanoseconds(h.SecretSet) == 0 {
			c.refuse(at(path, "secret_set"), fsm.CodeMalformed, "%q is not a time such as 2026-11-29T12:00:00Z", clip(h.SecretSet, 60))
		}
	}
}
