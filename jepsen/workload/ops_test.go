package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"havip-cluster/jepsen/history"
	"havip-cluster/jepsen/netns"
)

func TestSettle(t *testing.T) {
	lost := errors.New("connection reset")
	for _, c := range []struct {
		name    string
		answers []Answer
		errs    []error
		want    history.Outcome
		code    string
	}{
		{"ok", []Answer{{Status: 201, Body: []byte(`{"id":"x"}`), Index: 7}}, []error{nil}, history.OK, ""},
		{"refused", []Answer{{Status: 409, Code: "ResourceInUse"}}, []error{nil}, history.Fail, "ResourceInUse"},
		{"nobody listens", []Answer{{}}, []error{errNotSent}, history.Fail, "NotSent"},
		{"answer lost", []Answer{{}}, []error{lost}, history.Unknown, ""},
		{"unavailable", []Answer{{Status: 503, Code: "NoLeader"}}, []error{nil}, history.Unknown, "NoLeader"},
		{"lost, then ok", []Answer{{}, {Status: 200}}, []error{lost, nil}, history.OK, ""},
		{"not sent, then refused", []Answer{{}, {Status: 404, Code: "ResourceNotFound"}}, []error{errNotSent, nil}, history.Fail, "ResourceNotFound"},
		{"lost, then refused: perhaps by itself", []Answer{{}, {Status: 404, Code: "ResourceNotFound"}}, []error{lost, nil}, history.Unknown, "ResourceNotFound"},
		{"lost, then nobody listens", []Answer{{}, {}}, []error{lost, errNotSent}, history.Unknown, ""},
		{"done, and deleted since", []Answer{{Status: 404, Code: "ResourceNotFound", Detail: "was changed and has been deleted since"}}, []error{nil}, history.Unknown, "ResourceNotFound"},
	} {
		var op history.Op
		sent := false
		for i := range c.answers {
			if certain := settle(&op, c.answers[i], c.errs[i], &sent); certain && i < len(c.answers)-1 {
				t.Errorf("%s: certain after %d attempts", c.name, i+1)
			}
		}
		if op.Outcome != c.want || op.Code != c.code {
			t.Errorf("%s: %s %q, want %s %q", c.name, op.Outcome, op.Code, c.want, c.code)
		}
	}
}

// Two agents answer on their sockets: the first loses every answer to a change. The change is
// repeated at the second, under the same key.
func TestRepeatsUnderOneKey(t *testing.T) {
	lab, err := netns.New(netns.Options{Nodes: 2})
	if err != nil {
		t.Fatalf("this test needs root: %v", err)
	}
	defer lab.Close()
	dir, err := os.MkdirTemp("", "hv-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cluster := netns.NewCluster(lab, "/bin/false", dir)
	var mu sync.Mutex
	var keys []string
	for i := 1; i <= 2; i++ {
		if err := os.MkdirAll(cluster.DataDir(i), 0o700); err != nil {
			t.Fatal(err)
		}
		listener, err := net.Listen("unix", filepath.Join(cluster.DataDir(i), "havip.sock"))
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			keys = append(keys, r.Header.Get("Idempotency-Key"))
			mu.Unlock()
			if i == 1 {
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("X-Havip-Index", "42")
			fmt.Fprint(w, `{"id":"id-1","name":"v","node":"node-2","session":3,"epoch":9,"enabled":true,"range":{"members":["node-1"]}}`)
		})}
		go func() { _ = server.Serve(listener) }()
		defer server.Close()
	}
	client, rec := NewClient(cluster), NewRecorder(lab.Now)
	client.Move(context.Background(), rec, "c", "v", "node-2", 1)
	for tries := 1; tries < 3 && rec.Ops()[0].Attempts != 2; tries++ { // an attempt of a busy host may run out of its time
		mu.Lock()
		keys = nil
		mu.Unlock()
		rec = NewRecorder(lab.Now)
		client.Move(context.Background(), rec, "c", "v", "node-2", 1)
	}
	ops := rec.Ops()
	if len(ops) != 1 || len(keys) != 2 || keys[0] == "" || keys[0] != keys[1] {
		t.Fatalf("operations %+v, keys %q", ops, keys)
	}
	op := ops[0]
	var view history.HAVIP
	if err := json.Unmarshal(op.Output, &view); err != nil {
		t.Fatal(err)
	}
	if op.Outcome != history.OK || op.Node != "node-2" || op.Attempts != 2 || op.Index != 42 || op.Return < op.Invoke ||
		view.Node != "node-2" || view.Epoch != 9 || view.Session != 3 || !view.Enabled || len(view.Range) != 1 {
		t.Errorf("%+v", op)
	}
	client.Read(context.Background(), rec, "c", "v", false, 1)
	if op := rec.Ops()[1]; op.Outcome != history.Unknown || op.Attempts != 1 || op.Return != 0 {
		t.Errorf("a read without an answer: %+v", op)
	}
}
