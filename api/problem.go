package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// Codes of problems that do not come from the state machine; those are in fsm.
const (
	CodeNoLeader   = "NoLeader"             // no leader could be reached; repeat it
	CodeNotLeader  = "NotLeader"            // between nodes: nothing was done, ask the leader
	CodeAnswerLost = "AnswerLost"           // the change may have been done; repeat it with the same key
	CodeAuth       = "AuthFailure"          // no certificate, or not one of a member
	CodeAction     = "InvalidAction"        // no such endpoint or method
	CodeTooMany    = "RequestLimitExceeded" // too many at the same time, or too often
	CodeInternal   = "InternalError"
	CodeNoProvider = "UnsupportedOperation.NoProvider" // the node has no provider
	CodeCloud      = "FailedOperation.Cloud"           // the cloud refused, or did not answer
	CodeWebhook    = "FailedOperation.Webhook"         // the receiver did not take it
)

// Problem is an error as the API shows it: RFC 9457 with a stable code.
type Problem struct {
	Type   string         `json:"type" example:"about:blank"`
	Title  string         `json:"title" example:"Not Found"`
	Status int            `json:"status" example:"404"`
	Detail string         `json:"detail" doc:"What is wrong with which value, and the way out"`
	Code   string         `json:"code" example:"ResourceNotFound" doc:"Stable name of the reason"`
	Errors []ProblemField `json:"errors,omitempty" doc:"The parameters at fault"`
}

// ProblemField is one parameter at fault.
type ProblemField struct {
	Location string `json:"location" example:"body.name"`
	Value    string `json:"value,omitempty"`
	Message  string `json:"message"`
}

func (p *Problem) Error() string { return p.Detail }

// GetStatus is the HTTP status, for huma.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457, for huma.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// problem makes a Problem.
func problem(status int, code, format string, args ...any) *Problem {
	return &Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code,
		Detail: fmt.Sprintf(format, args...),
	}
}

// problemOf turns any error into what the caller is shown.
func problemOf(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	if r, ok := errors.AsType[*fsm.Refusal](err); ok {
		return problem(statusOf(r.Code), string(r.Code), "%s", r.Message)
	}
	switch {
	case errors.Is(err, ErrNotLeader), errors.Is(err, ErrNoLeader), errors.Is(err, ErrUnreachable):
		return problem(http.StatusServiceUnavailable, CodeNoLeader, "no leader could be reached: %s", plain(err))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return problem(http.StatusServiceUnavailable, CodeNoLeader,
			"no majority answered in time; a change may still have been done: repeat it with the same %s", headerKey)
	case errors.Is(err, identity.ErrToken), errors.Is(err, identity.ErrExpired):
		return problem(http.StatusForbidden, string(fsm.CodeTokenRefused), "%s", plain(err))
	case errors.Is(err, identity.ErrInvalid):
		return problem(http.StatusBadRequest, string(fsm.CodeParameter), "%s", plain(err))
	}
	return problem(http.StatusInternalServerError, CodeInternal, "%s", plain(err))
}

// plain is an error's text without the names of our packages before it.
func plain(err error) string {
	text := err.Error()
	for _, prefix := range []string{"api: ", "identity: ", "fsm: ", "placement: ", "invalid value: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return text
}

// statusOf gives the HTTP status of a refusal.
func statusOf(c fsm.Code) int {
	switch kind, _, _ := strings.Cut(string(c), "."); fsm.Code(kind) {
	case fsm.CodeNotFound:
		return http.StatusNotFound
	case fsm.CodeParameter, fsm.CodeMissing:
		return http.StatusBadRequest
	case fsm.CodeTokenRefused, fsm.CodeDenied:
		return http.StatusForbidden
	case fsm.CodeNotReady:
		return http.StatusServiceUnavailable
	}
	return http.StatusConflict // in use, limits, unsupported now, stale epochs
}

// huma asks these two whenever it makes an error by itself. They are variables of that
// package, so they are set once, before any API is built.
func init() {
	huma.NewError = humaProblem
	huma.NewErrorWithContext = func(_ huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return humaProblem(status, msg, errs...)
	}
}

// humaProblem gives huma's own errors our shape: the field and its value are named.
func humaProblem(status int, msg string, errs ...error) huma.StatusError {
	p := problem(status, CodeInternal, "%s", msg)
	switch {
	case status == http.StatusRequestEntityTooLarge:
		p.Code = string(fsm.CodeLimit)
	case status == http.StatusUnprocessableEntity:
		p.Status, p.Title, p.Code = http.StatusBadRequest, http.StatusText(http.StatusBadRequest), string(fsm.CodeParameter)
	case status < http.StatusInternalServerError && status != 0:
		p.Code = string(fsm.CodeMalformed)
	}
	var parts []string
	for _, err := range errs {
		d, ok := err.(huma.ErrorDetailer)
		if !ok {
			if err != nil {
				parts = append(parts, plain(err))
			}
			continue
		}
		f := fieldOf(d.ErrorDetail())
		p.Errors = append(p.Errors, f)
		if f.Value != "" {
			parts = append(parts, fmt.Sprintf("%s (%s): %s", f.Location, f.Value, f.Message))
		} else {
			parts = append(parts, f.Location+": "+f.Message)
		}
	}
	if len(parts) > 0 {
		p.Detail += ": " + strings.Join(parts, "; ")
	}
	return p
}

// valueMax is how many bytes of a value at fault are shown.
const valueMax = 100

// fieldOf names a parameter and its value. A whole body is not repeated: it may hold a
// secret, and it says less than its parts.
func fieldOf(d *huma.ErrorDetail) ProblemField {
	f := ProblemField{Location: d.Location, Message: d.Message}
	_, isObject := d.Value.(map[string]any)
	if d.Value == nil || isObject || d.Location == "body" || strings.HasSuffix(d.Location, "token") {
		return f
	}
	f.Value = fmt.Sprint(d.Value)
	if len(f.Value) > valueMax {
		f.Value = strings.ToValidUTF8(f.Value[:valueMax], "") + "..."
	}
	if !utf8.ValidString(f.Value) {
		f.Value = fmt.Sprintf("%q", f.Value)
	}
	return f
}

// Exit codes of the command line.
const (
	ExitDone        = 0
	ExitRefused     = 1
	ExitUsage       = 2
	ExitUnreachable = 3
	ExitNotFound    = 4
)

// ExitCode gives the exit code for an error of a Client, or of anything that has a method
// ExitCode itself.
func ExitCode(err error) int {
	if err == nil {
		return ExitDone
	}
	var own interface{ ExitCode() int }
	if errors.As(err, &own) {
		return own.ExitCode()
	}
	if errors.Is(err, ErrUnreachable) || errors.Is(err, ErrNoLeader) {
		return ExitUnreachable
	}
	p, ok := errors.AsType[*Problem](err)
	switch {
	case !ok:
		return ExitRefused
	case p.Status == http.StatusServiceUnavailable || p.Code == CodeAnswerLost:
		return ExitUnreachable
	case p.Code == string(fsm.CodeNotFound):
		return ExitNotFound
	}
	return ExitRefused
}
