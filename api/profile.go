package api

import (
	"net/http"
	"net/http/pprof"
)

// profiles shows where this process spends its time and memory: GET /debug/pprof/, and for
// example /debug/pprof/profile?seconds=5. Only over the local socket: it tells of the memory of a
// process that holds keys, and a profile costs CPU.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !peerOf(r.Context()).local {
			writeProblem(w, problem(http.StatusForbidden, CodeAuth, "profiles are given only over the local socket of this node"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// logTail shows the newest lines of this node's log. Only over the local socket.
func (s *Server) logTail(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if s.LogTail != nil {
		_, _ = w.Write(s.LogTail()) // the reader has gone if this fails
	}
}
