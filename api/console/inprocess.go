package console

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
)

// InProcess carries requests to a handler in this process, as if they had come over TLS without a
// certificate from the address of the browser: what counts is the token that they show, and the API's
// bounds on wrong ones count for whoever sent it.
//
// A handler that panics ends its own answer and nothing else, as in a server of net/http: the API's library panics when
// the reader of an answer has gone, which every closed page is.
func InProcess(h http.Handler) http.RoundTripper {
	return inProcess{h, slog.New(slog.DiscardHandler)}
}

type inProcess struct {
	handler http.Handler
	log     *slog.Logger
}

// stackMax is the most bytes of a stack in the log.
const stackMax = 4 << 10

// bare is a context without what the outer request has in it: who that one is taken for must not leak
// into this one.
type bare struct{ context.Context }

func (bare) Value(any) any { return nil }

// RoundTrip implements http.RoundTripper. The answer's body is a pipe, so a stream is one here too.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	source, ok := r.Context().Value(sourceKey{}).(string)
	if !ok {
		return nil, errors.New("console: a request of nobody")
	}
	ctx, cancel := context.WithCancel(bare{r.Context()})
	in := r.Clone(ctx)
	in.RemoteAddr, in.RequestURI, in.TLS = source, r.URL.RequestURI(), &tls.ConnectionState{HandshakeComplete: true}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	reader, writer := io.Pipe()
	answer := &pipeWriter{header: http.Header{}, pipe: writer, begun: make(chan struct{})}
	go func() { // ends with the handler, which ends with ctx
		defer cancel()
		defer answer.WriteHeader(http.StatusOK)
		defer func() {
			p := recover()
			if p == nil {
				_ = writer.Close()
				return
			}
			err, _ := p.(error) // http.ErrAbortHandler is how a handler ends its answer
			if ctx.Err() == nil && !errors.Is(err, http.ErrAbortHandler) {
				stack := debug.Stack()
				t.log.Error("console: a handler of the API panicked", "path", clip(r.URL.Path), "why", p, "stack", string(stack[:min(len(stack), stackMax)]))
			}
			_ = writer.CloseWithError(fmt.Errorf("console: the handler panicked: %v", p))
			answer.WriteHeader(http.StatusInternalServerError)
		}()
		t.handler.ServeHTTP(answer, in)
	}()
	select {
	case <-answer.begun:
	case <-ctx.Done():
		select {
		case <-answer.begun: // it has ended because it was done
		default:
			_ = reader.CloseWithError(ctx.Err())
			return nil, ctx.Err()
		}
	}
	return &http.Response{
		Status: http.StatusText(answer.status), StatusCode: answer.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: answer.sent, Body: pipeBody{reader, cancel}, ContentLength: -1, Request: r,
	}, nil
}

// pipeBody ends the handler when its reader is closed.
type pipeBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (b pipeBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}

// pipeWriter is the http.ResponseWriter at the other end. Only the handler calls it.
type pipeWriter struct {
	header http.Header
	sent   http.Header // as it was when the answer began
	status int
	pipe   *io.PipeWriter
	begin  sync.Once
	begun  chan struct{}
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	w.begin.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.begun)
	})
}

func (w *pipeWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(b)
}

// Flush implements http.Flusher: a pipe keeps nothing back.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }
