package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
)

// What was done and what was refused is on record, with who asked, from where, and the key.
func TestAudit(t *testing.T) {
	w := newWorld(t)
	nobody := asker{client: w.tlsClient(t, 1, nil), base: "https://" + w.addrs[1]}
	ops := nobody
	ops.header = bearerHeader(w.credential(t, "ops", fsm.RightOperator, "", 0))
	began := time.Now()
	w.ask(t, 0, "POST", "/v1/havips", webBody, headerKey, "k1")
	w.log.place(t)
	ops.send(t, "POST", "/v1/havips/web/disable", "", headerKey, "k2")
	for range 3 {
		ops.send(t, "DELETE", "/v1/havips/web", "")
	}
	w.ask(t, 1, "DELETE", "/v1/havips/nothing", "")
	nobody.send(t, "POST", "/v1/havips", webBody)

	list, err := w.local(1).Audit(context.Background(), began)
	must(t, err)
	var got []string
	for _, e := range list {
		got = append(got, strings.Join([]string{e.Principal, e.Role, e.Source, e.Request, e.Object, e.Key, e.Outcome, e.Code, fmt.Sprint(e.Times)}, "|"))
		if e.At.Before(began) || (e.Outcome == OutcomeDone) == (e.Index == 0) {
			t.Errorf("%+v", e)
		}
	}
	want := []string{
		"root@node-1|admin||create-havip|web|k1|done||0",
		"token:ops|operator|127.0.0.1 via node-2|disable-havip|web|k2|done||0",
		"token:ops|operator|127.0.0.1 via node-2|delete-havip|web||refused|UnauthorizedOperation|3",
		"root@node-2|admin|via node-2|delete-havip|nothing||refused|ResourceNotFound|1",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("at the leader:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// Who has no credential is refused where he came, and stands on that node's record.
	own := w.servers[1].refusals.list()
	if len(own) != 1 || own[0].Principal != "nobody" || own[0].Source != "127.0.0.1" || own[0].Code != CodeAuth {
		t.Errorf("at the follower: %+v", own)
	}
	if list, err = w.local(0).Audit(context.Background(), time.Now()); err != nil || len(list) > 0 {
		t.Errorf("since now: %v %v", list, err)
	}
}

// No secret is on record, whatever was refused.
func TestAuditHoldsNoSecret(t *testing.T) {
	w := newWorld(t)
	token := w.credential(t, "v", fsm.RightViewer, "", 0)
	a := asker{client: w.tlsClient(t, 0, nil), base: "https://" + w.addrs[0], header: bearerHeader(token)}
	a.send(t, "POST", "/v1/tokens", `{"node":"node-9"}`)
	a.header = bearerHeader(token[:len(token)-1])
	a.send(t, "GET", "/v1/status", "")
	_, body := w.ask(t, 0, "GET", "/v1/audit", "")
	_, snap := w.ask(t, 0, "GET", "/v1/snapshot", "")
	for _, text := range []string{string(body), string(snap)} {
		if strings.Contains(text, token[10:40]) {
			t.Error("the token is shown")
		}
	}
}

// What a webhook signs with leaves in the snapshot of an admin alone, who can restore it.
func TestSnapshotsOfViewersHoldNoSecret(t *testing.T) {
	w := newWorld(t)
	const key = "0123456789abcdef-key"
	if res := w.log.apply(t, fsm.CreateWebhook{Name: "ops", URL: "https://hooks.example/x", Secret: key}, ""); res.Refusal != nil {
		t.Fatal(res.Refusal)
	}
	for right, has := range map[fsm.Right]bool{fsm.RightViewer: false, fsm.RightOperator: false, fsm.RightAdmin: true} {
		c := w.credential(t, string(right), right, "", 0)
		for _, path := range []string{"/v1/snapshot", "/v1/export", "/v1/webhooks"} {
			req, err := http.NewRequest(http.MethodGet, "https://"+w.addrs[0]+path, nil)
			must(t, err)
			req.Header.Set("Authorization", "Bearer "+c)
			res, err := w.tlsClient(t, 0, nil).Do(req)
			must(t, err)
			body, err := io.ReadAll(res.Body)
			must(t, errors.Join(err, res.Body.Close()))
			if got := strings.Contains(string(body), key); res.StatusCode != http.StatusOK || got != (has && path == "/v1/snapshot") {
				t.Errorf("%s of a %s: status %d, with the secret: %v", path, right, res.StatusCode, got)
			}
			if !strings.Contains(string(body), "hooks.example") {
				t.Errorf("%s of a %s does not name the webhook", path, right)
			}
		}
	}
}

// Refusals are bounded in number and in time, and never in the log.
func TestRefusalsAreBounded(t *testing.T) {
	var f refusals
	now := time.Now()
	entry := func(i int, at time.Time) AuditEntry {
		return AuditEntry{At: at, Principal: fmt.Sprint("token:", i), Code: "x"}
	}
	for i := range 10 * refusalsPerMinute {
		f.add(entry(i, now))
		f.add(entry(i, now))
	}
	if len(f.list()) != refusalsPerMinute || f.list()[0].Times != 2 || f.lost == 0 {
		t.Errorf("%d in one minute, the first %d times, %d lost", len(f.list()), f.list()[0].Times, f.lost)
	}
	for i := range 20 * refusalsPerMinute {
		f.add(entry(i, now.Add(time.Duration(i)*time.Minute)))
	}
	if len(f.list()) != limits.Refusals {
		t.Errorf("%d are kept", len(f.list()))
	}
}

// The stream has what comes after it began.
func TestFollowAudit(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://local/v1/audit?follow=true", nil)
	must(t, err)
	resp, err := w.curl(0).Do(req)
	must(t, err)
	defer resp.Body.Close()
	w.ask(t, 0, "POST", "/v1/havips", webBody)
	w.ask(t, 0, "POST", "/v1/havips", webBody)
	lines := bufio.NewScanner(resp.Body)
	var seen []string
	for len(seen) < 2 && lines.Scan() {
		if text := lines.Text(); strings.HasPrefix(text, "event: ") {
			seen = append(seen, text)
		}
	}
	if strings.Join(seen, " ") != "event: done event: refused" {
		t.Errorf("%q, %v", seen, lines.Err())
	}
	if resp, _ := w.ask(t, 0, "GET", "/v1/audit?since=yesterday", ""); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("since yesterday: %d", resp.StatusCode)
	}
}
