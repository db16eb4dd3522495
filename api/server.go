package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"havip-cluster/fsm"
	"havip-cluster/internal/limits"
	"havip-cluster/membership/identity"
)

// Config is what a Server is made of.
type Config struct {
	Backend  Backend
	Identity *identity.Identity
	// Keys is what other members get from this node; nil = nothing.
	Keys    KeyGiver
	Version string
	// Kept reads what this node keeps of the journal in files: the newest most events that take
	// takes, oldest first; nil = it keeps none.
	Kept func(take func(fsm.Event) bool, most int) ([]fsm.Event, error)
	// Registry is what /metrics shows; the server adds its own counters. nil = an empty one.
	Registry *prometheus.Registry
	// Series are more of what /metrics shows, in families of their own that are sorted already; nil = none.
	Series prometheus.Gatherer
	// TestWebhook sends a message of kind test from this node; nil = it sends none.
	TestWebhook func(ctx context.Context, name string) error
	Log         *slog.Logger // nil = silent
	// LogTail gives the newest lines of this node's log, for the local socket; nil = none.
	LogTail func() []byte
	// Console makes the pages under /console/ of the API that they ask; nil = none.
	Console func(api http.Handler) http.Handler
	// Snapshots lists what this node has saved by itself; nil = nothing.
	Snapshots func() ([]SavedSnapshot, error)
	// Cloud is this node's provider; nil = none.
	Cloud Cloud
}

// Server answers requests. It is made by New and lives in Run.
type Server struct {
	Config
	mux     *routeMux
	names   map[string]string // of operations, by route
	huma    huma.API
	openapi []byte
	handler http.Handler

	lists     chan struct{} // holds one token: see commitList
	plans     chan struct{} // one place for each plan
	files     chan struct{} // one place for each request with a configuration
	reading   chan struct{} // one place for the configuration that is being read
	followers chan struct{} // one place for each event stream
	stopping  chan struct{} // closed when Run ends: event streams end with it
	joins     joinLimiter
	logins    joinLimiter // tokens that are none
	refusals  refusals
	leader    leaderLink
	placed    atomic.Pointer[placedAt]

	requests  *prometheus.CounterVec
	took      *prometheus.HistogramVec
	forwarded prometheus.Counter
	refused   prometheus.Counter
	denied    prometheus.Counter
}

// New makes a Server. It starts nothing.
func New(c Config) *Server {
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		Config: c, mux: &routeMux{ServeMux: http.NewServeMux()},
		lists: make(chan struct{}, 1), plans: make(chan struct{}, plansMax), files: make(chan struct{}, limits.Files), reading: make(chan struct{}, 1), followers: make(chan struct{}, followersMax), stopping: make(chan struct{}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "havip_api_requests_total", Help: "Requests answered by this node, by method, route and HTTP status.",
		}, []string{"method", "route", "code"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "havip_api_request_seconds", Help: "How long this node took to answer, by route; event streams are not in it.",
			Buckets: []float64{.0005, .001, .005, .01, .05, .1, .5, 1, 5},
		}, []string{"route"}),
		forwarded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "havip_api_forwarded_total", Help: "Requests that this node passed on to the leader.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "havip_api_refused_connections_total", Help: "Connections that were closed because too many were open.",
		}),
	}
	s.denied = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "havip_api_denied_total", Help: "Requests that this node refused because the caller had no credential, or not the right.",
	})
	c.Registry.MustRegister(s.requests, s.took, s.forwarded, s.refused, s.denied)
	conf := huma.DefaultConfig("havip-cluster", c.Version)
	conf.CreateHooks = nil // no "$schema" in answers: lists are arrays, objects have our fields only
	conf.OpenAPIPath, conf.DocsPath, conf.SchemasPath = "", "", ""
	conf.RejectUnknownQueryParameters = true
	conf.Formats = map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat}
	s.huma = humago.New(s.mux, conf)
	s.routes()
	openapi, err := json.Marshal(s.huma.OpenAPI())
	if err != nil {
		panic(fmt.Sprintf("api: the OpenAPI document cannot be encoded: %v", err))
	}
	s.openapi = openapi
	s.plainRoutes()
	s.names = operationNames(s.huma.OpenAPI())
	s.handler = s.count(s.limit(s.record(s.authenticate(s.receive(s.route(s.mux))))))
	return s
}

// Handler is the whole API as one handler, for Run and for tests.
func (s *Server) Handler() http.Handler { return s.handler }

// plainRoutes are those without an operation in the OpenAPI document.
func (s *Server) plainRoutes() {
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	s.mux.HandleFunc("GET /readyz", s.ready)
	s.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(s.openapi)
	})
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(prometheus.GathererFunc(s.gather), promhttp.HandlerOpts{}))
	s.mux.Handle("GET /debug/pprof/", profiles())
	s.mux.HandleFunc("GET /debug/log", s.logTail)
	s.consoleRoutes()
	s.mux.ServeMux.HandleFunc("/", s.unknown)
}

// gather is all of /metrics.
func (s *Server) gather() ([]*dto.MetricFamily, error) {
	all, err := s.Registry.Gather()
	if err != nil || s.Series == nil {
		return all, err
	}
	more, err := s.Series.Gather()
	all = append(all, more...)
	slices.SortFunc(all, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return all, err
}

// ready says whether requests make sense here: the state is there and a leader is known.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	leader, ok := s.Backend.Leader()
	switch st := s.Backend.State(); {
	case st.Cluster.ID == "":
		writeProblem(w, problem(http.StatusServiceUnavailable, "NotReady", "this node has no state yet; it waits for the log"))
	case !ok:
		writeProblem(w, problem(http.StatusServiceUnavailable, CodeNoLeader, "no leader is known at this node"))
	default:
		writeJSON(w, http.StatusOK, map[string]any{"status": "ok", "leader": leader.Name, "index": st.Index})
	}
}

// unknown answers what no endpoint is made for. The mux gives it other methods of known
// paths too, because it matches everything; those get 405.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		probe := *r
		probe.Method = m
		if _, pattern := s.mux.Handler(&probe); pattern != "/" {
			allow = append(allow, m)
		}
	}
	if len(allow) > 0 {
		w.Header().Set("Allow", strings.Join(allow, ", "))
		writeProblem(w, problem(http.StatusMethodNotAllowed, CodeAction, "%s knows %s, not %s", r.URL.Path, strings.Join(allow, ", "), r.Method))
		return
	}
	writeProblem(w, problem(http.StatusNotFound, CodeAction, "there is no endpoint %s; GET /openapi.json lists all", r.URL.Path))
}

// limit bounds the time of every request but streams: by requestTimeout, and by what the caller
// says that it still waits.
func (s *Server) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !streams(r) {
			most, err := patience(r)
			if err != nil {
				writeProblem(w, problem(http.StatusBadRequest, string(fsm.CodeMalformed), "%v", err))
				return
			}
			ctx, cancel := context.WithTimeout(r.Context(), most)
			defer cancel()
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(w, r)
	})
}

// patience is how long a request may take.
func patience(r *http.Request) (time.Duration, error) {
	text := r.Header.Get(headerPatience)
	if text == "" {
		return requestTimeout, nil
	}
	ms, err := strconv.Atoi(text)
	if err != nil || ms < 1 || ms > int(time.Hour/time.Millisecond) {
		return 0, fmt.Errorf("%s %q is not a number of milliseconds, 1 to %d", headerPatience, text[:min(len(text), valueMax)], time.Hour/time.Millisecond)
	}
	return min(requestTimeout, time.Duration(ms)*time.Millisecond), nil
}

// receive reads the body, once the caller may speak at all: it may have to be sent twice,
// and a read deadline that is still set when the answer takes long would end the request.
func (s *Server) receive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit := int64(bodyMax)
		switch {
		case r.URL.Path == "/v1/join":
			limit = joinBodyMax
		case holdsFile(r):
			limit = fileBodyMax
			release, ok := s.fileTurn(r.Context())
			if !ok {
				w.Header().Set("Retry-After", fmt.Sprint(int(fileWait/time.Second)))
				writeProblem(w, problem(http.StatusServiceUnavailable, CodeTooMany, "%d configurations are being read at this node, at most %d; try again in a moment", limits.Files, limits.Files))
				return
			}
			defer release()
		}
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // not supported only by test recorders
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
		_ = control.SetReadDeadline(time.Time{})
		if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
			writeProblem(w, problem(http.StatusRequestEntityTooLarge, string(fsm.CodeLimit), "the request's body is longer than %d bytes", limit))
			return
		}
		if err != nil {
			writeProblem(w, problem(http.StatusBadRequest, string(fsm.CodeMalformed), "the request's body cannot be read: %v", err))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), bodyKey{}, body)))
	})
}

// holdsFile reports whether a request may have a whole configuration in it.
func holdsFile(r *http.Request) bool {
	return r.URL.Path == "/v1/apply" || r.URL.Path == "/v1/plan" && (r.ContentLength < 0 || r.ContentLength > bodyMax)
}

// fileTurn waits for a place to read a configuration, before a byte of it is read: what waits
// holds no memory. Not ok: none came within fileWait, or the caller has gone.
func (s *Server) fileTurn(ctx context.Context) (release func(), ok bool) {
	ctx, cancel := context.WithTimeout(ctx, fileWait)
	defer cancel()
	select {
	case s.files <- struct{}{}:
		return func() { <-s.files }, true
	case <-ctx.Done():
		return nil, false
	}
}

// bodyKey is the context key of the body that receive has read.
type bodyKey struct{}

// count keeps the request counter.
func (s *Server) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sw, start := &statusWriter{ResponseWriter: w, status: http.StatusOK}, time.Now()
		_, route, _ := strings.Cut(s.pattern(r), " ") // of few, whatever the caller asks for
		next.ServeHTTP(sw, r)
		s.requests.WithLabelValues(methodLabel(r.Method), route, strconv.Itoa(sw.status)).Inc()
		if !streams(r) {
			s.took.WithLabelValues(route).Observe(time.Since(start).Seconds())
		}
	})
}

// methodLabel bounds the number of time series: a method is the caller's choice.
func methodLabel(m string) string {
	switch m {
	case http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete:
		return m
	}
	return "other"
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the reader has gone if this fails
}

func writeProblem(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

// ListenLocal opens the unix socket of the local API, which only its owner may use. A
// socket that a dead agent left behind is replaced: the caller holds the data directory's
// lock, so no living one can have it.
func ListenLocal(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("api: replace socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	// Between Listen and Chmod the directory's mode 0700 keeps others out.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("api: %w", err), l.Close())
	}
	return l, nil
}

// Run serves on both listeners until ctx ends or one fails: public with TLS, local (a
// unix socket) without. Either may be nil. It closes them. It may be called once.
func (s *Server) Run(ctx context.Context, public, local net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	errs := make(chan error, 2)
	serve := func(l net.Listener, secure bool) {
		if l == nil {
			return
		}
		group.Go(func() {
			defer cancel() // one without the other is half a node
			errs <- s.serve(ctx, l, secure)
		})
	}
	serve(public, true)
	serve(local, false)
	<-ctx.Done()
	close(s.stopping) // first: a stream never ends by itself, and Shutdown would wait for it
	group.Wait()
	close(errs)
	s.leader.close()
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// httpServer is what serves a listener.
func (s *Server) httpServer() *http.Server {
	return &http.Server{
		Handler: s.handler, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: headerTimeout, // receive bounds the rest
		WriteTimeout:      requestTimeout + writeGrace, IdleTimeout: idleTimeout, MaxHeaderBytes: headerMax,
		ConnContext: withPeer,
	}
}

func (s *Server) serve(ctx context.Context, l net.Listener, secure bool) error {
	srv := s.httpServer()
	bounded := &places{Listener: l, member: s.ofMember, refused: s.refused.Inc}
	if secure {
		srv.ConnState = bounded.state
	}
	done := make(chan error, 1)
	go func() {
		if !secure {
			done <- srv.Serve(l)
			return
		}
		srv.TLSConfig = s.Identity.ServerTLS(false)
		done <- srv.ServeTLS(bounded, "", "")
	}()
	select {
	case err := <-done:
		return fmt.Errorf("api: serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		_ = srv.Close() // requests still at work after the grace are cut off
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("api: serve %s: %w", l.Addr(), err)
	}
	return nil
}

// poll waits for d, or less when ctx ends; then it returns false.
func poll(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
