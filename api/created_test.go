package api

import (
	"context"
	"net/http"
	"testing"

	"havip-cluster/fsm"
)

// TestTheRouteSaysItsStatus: what a change is answered with is said where it is registered; its id is a name.
func TestTheRouteSaysItsStatus(t *testing.T) {
	s := newWorld(t).servers[0]
	act := func(context.Context, *struct{}) (fsm.Result, error) { return fsm.Result{}, nil }
	write(s, http.MethodPost, "/v1/one", "create-nothing", "x", act, done)
	write(s, http.MethodPost, "/v1/two", "go", "x", act, done)
	create(s, "/v1/three", "make", "x", act, done)
	for path, want := range map[string]string{"/v1/one": "200", "/v1/two": "200", "/v1/three": "201"} {
		if post := s.huma.OpenAPI().Paths[path].Post; post.Responses[want] == nil {
			t.Errorf("%s is not answered with %s: %v", post.OperationID, want, post.Responses)
		}
	}
}
