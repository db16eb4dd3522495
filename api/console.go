package api

import (
	"net/http"
	"strings"
)

// consolePath is where the console is served on the TLS port: pages for a browser.
const consolePath = "/console/"

// consoleLive is its stream, which has no time limit of its own.
const consoleLive = consolePath + "live"

// consoleRoutes mount the console, if there is one. It asks this very server, with the token of who
// logged in, and through all gates: so it may what its user may, and what it does is on the same record.
func (s *Server) consoleRoutes() {
	if s.Config.Console == nil {
		return
	}
	h := s.Config.Console(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }))
	s.mux.Handle("GET "+consolePath, h)
	s.mux.Handle("POST "+consolePath, h)
}

// isConsole reports whether a request is for a page of the console.
func isConsole(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, consolePath) }

// streams reports whether the answer has no end: it is bounded by other means than time.
func streams(r *http.Request) bool {
	return follows(r) || r.Method == http.MethodGet && r.URL.Path == consoleLive
}
