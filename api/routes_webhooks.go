package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"havip-cluster/fsm"
)

// WebhookSpec is a new webhook.
type WebhookSpec struct {
	Name   string   `json:"name"`
	URL    string   `json:"url"`
	Events []string `json:"events,omitempty" doc:"Kinds of events; absent: all"`
	Secret string   `json:"secret,omitempty" doc:"Key of the signature, 16 to 256 bytes; it is never shown again"`
}

// Webhook is a webhook as anybody may see it: never with its secret.
type Webhook struct {
	Name    string     `json:"name"`
	URL     string     `json:"url"`
	Events  []string   `json:"events" doc:"Empty: all"`
	Signed  bool       `json:"signed"`
	Created time.Time  `json:"created"`
	By      string     `json:"by,omitempty"`
	Sent    uint64     `json:"sent" doc:"Index up to which it has taken every event"`
	Lost    uint64     `json:"lost" doc:"Events that were given up"`
	Failure string     `json:"failure,omitempty"`
	Failing *time.Time `json:"failing" doc:"Since when; null: it does not"`
}

func webhookView(h fsm.Webhook) Webhook {
	return Webhook{
		Name: h.Name, URL: h.URL, Events: list(h.Events), Signed: h.Signed(), Created: wall(h.Created), By: h.By,
		Sent: h.Sent, Lost: h.Lost, Failure: h.Failure, Failing: timeOrNull(h.Failing),
	}
}

type webhookCreate struct {
	Key
	Body WebhookSpec
}

func (s *Server) webhookRoutes() {
	read(s, "/v1/webhooks", "list-webhooks", "Webhooks, without their secrets", func(st *fsm.State, _ *Consistency) ([]Webhook, error) {
		out := []Webhook{}
		for _, h := range st.WebhookList() {
			out = append(out, webhookView(h))
		}
		return out, nil
	})
	write(s, http.MethodPost, "/v1/webhooks", "create-webhook", "Make a webhook", func(ctx context.Context, in *webhookCreate) (fsm.Result, error) {
		return s.commit(ctx, in.Key.Key, one(fsm.CreateWebhook{Name: in.Body.Name, URL: in.Body.URL, Events: in.Body.Events, Secret: in.Body.Secret}))
	}, func(st *fsm.State, in *webhookCreate, _ fsm.Result) (Webhook, error) {
		return webhookView(st.Webhooks[in.Body.Name]), nil
	})
	write(s, http.MethodDelete, "/v1/webhooks/{name}", "delete-webhook", "Forget a webhook", func(ctx context.Context, in *nameChange) (fsm.Result, error) {
		return s.commit(ctx, in.Key.Key, one(fsm.DeleteWebhook{Name: in.Name}))
	}, done)
	huma.Register(s.huma, huma.Operation{
		Method: http.MethodPost, Path: "/v1/webhooks/{name}/test", OperationID: "test-webhook", Summary: "Send a message of kind test now, from the leader",
		Errors: writeErrors, MaxBodyBytes: -1, BodyReadTimeout: -1,
	}, func(ctx context.Context, in *nameChange) (*reply[Done], error) {
		if s.TestWebhook == nil {
			return nil, problem(http.StatusNotImplemented, string(fsm.CodeUnsupported), "this node sends no webhooks")
		}
		err := s.TestWebhook(ctx, in.Name)
		if refusal, is := err.(*fsm.Refusal); is { //nolint:errorlint // it is never wrapped there
			return nil, problemOf(refusal)
		}
		if err != nil {
			return nil, problem(http.StatusBadGateway, CodeWebhook, "%v", err)
		}
		return answer(s.Backend.State(), Done{}), nil
	})
}
