package api

import (
	"context"
	"havip-cluster/fsm"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

// BenchmarkStaleReads: stale placement reads, through all that a request goes through at the local socket, in this
// process: without the socket and the client's half. TestReadsWriteNothing in jepsen/scenario has the socket.
func BenchmarkStaleReads(b *testing.B) {
	w := newWorld(b)
	handler := w.servers[0].Handler()
	w.log.apply(b, fsm.CreateSubnet{Subnet: fsm.Subnet{Name: "lan", CIDR: netip.MustParsePrefix("10.77.0.0/24")}}, "")
	w.log.apply(b, fsm.CreateHAVIP{Name: "web", IP: netip.MustParseAddr("10.77.0.100")}, "")
	ctx := context.WithValue(b.Context(), peerKey{}, peer{local: true})
	b.ReportAllocs()
	begun := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/placement?consistency=stale", nil)
		for pb.Next() {
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, req)
			if answer.Code != http.StatusOK {
				b.Errorf("%d: %s", answer.Code, answer.Body)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/time.Since(begun).Seconds(), "reads/s")
}
