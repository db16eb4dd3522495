package api

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A test of a webhook that its receiver did not take is answered, and not sent again and again. An answer that was lost
// is asked for again.
func TestATestIsSentOnce(t *testing.T) {
	for _, row := range []struct {
		code string
		once bool
	}{{CodeWebhook, true}, {CodeAnswerLost, false}} {
		var asked atomic.Int64
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		must(t, err)
		s := &httptest.Server{Listener: l, Config: &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprintf(w, `{"status":502,"code":%q,"detail":"nobody listens"}`, row.code)
		})}}
		s.Start()
		c := NewLocalClient(socket)
		c.Timeout = 20 * time.Second
		for range 3 { // a busy host may have taken all the time that there is for another try
			asked.Store(0)
			_, err = c.TestWebhook(t.Context(), "ops")
			if row.once || asked.Load() > 1 {
				break
			}
		}
		s.Close()
		if err == nil || !strings.Contains(err.Error(), "nobody listens") || (asked.Load() == 1) != row.once {
			t.Errorf("%s: asked %d times: %v", row.code, asked.Load(), err)
		}
	}
}
