// Package exec is the provider whose calls a program of the operator's makes: one run for each call,
// a JSON object in, a JSON object out. The contract for such programs is in docs/clouds.md.
package exec

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"havip-cluster/internal/plain"
	"havip-cluster/internal/program"
	"havip-cluster/internal/rootonly"
	"havip-cluster/provider"
)

const (
	// Version is that of the contract.
	Version = 1
	// answerMax is how much of an answer is read, in bytes; errorMax how much of what it says of a failure is shown.
	answerMax = 64 << 10
	errorMax  = 200
)

// CallTest is the call that changes nothing: the program says whether it could work.
const CallTest provider.CallKind = "test"

// Request is what a program reads.
type Request struct {
	Version int               `json:"version"`
	Call    provider.CallKind `json:"call"`
	HAVIP   string            `json:"havip"` // name
	ID      string            `json:"id"`
	IP      string            `json:"ip"`
	Node    string            `json:"node"`
	ENI     string            `json:"eni"`
	Device  string            `json:"device"`
	MAC     string            `json:"mac"`
	Epoch   uint64            `json:"epoch"`
	// Deadline is when the lease ends that is held now, in unix milliseconds.
	Deadline int64 `json:"deadline_unix_ms"`
	// Timeout is what the program may take before it is killed, in milliseconds.
	Timeout int64 `json:"timeout_ms"`
}

// Answer is what a program writes. Keys that are not known here are passed over.
type Answer struct {
	Error string `json:"error"` // why it was not done; "" = it was
	Here  *bool  `json:"here"`  // describe: the address is sent to this host's interface
	Where string `json:"where"` // describe: where it is sent, in the cloud's words
}

// Provider runs the program.
type Provider struct{ cfg provider.Exec }

var (
	_ provider.Provider = (*Provider)(nil)
	_ provider.Claimer  = (*Provider)(nil)
)

// New makes one. It runs nothing.
func New(cfg provider.Exec) (*Provider, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if _, err := program.Credential(cfg.User); err != nil {
		return nil, fmt.Errorf("provider: exec: user: %w", err)
	}
	return &Provider{cfg}, nil
}

// Kind implements provider.Provider.
func (p *Provider) Kind() string { return provider.KindExec }

// Caps implements provider.Provider.
func (p *Provider) Caps() provider.Capabilities {
	return provider.Capabilities{ClaimByAPI: true, Async: true}
}

// Test implements provider.Provider: the program is asked whether it could work.
func (p *Provider) Test(ctx context.Context) (provider.Self, error) {
	_, err := p.run(ctx, CallTest, provider.Claim{})
	return provider.Self{Endpoint: p.path()}, err
}

// Claim implements provider.Claimer.
func (p *Provider) Claim(ctx context.Context, c provider.Claim) error {
	_, err := p.run(ctx, provider.CallClaim, c)
	return err
}

// Release implements provider.Claimer.
func (p *Provider) Release(ctx context.Context, c provider.Claim) error {
	_, err := p.run(ctx, provider.CallRelease, c)
	return err
}

// Where implements provider.Claimer.
func (p *Provider) Where(ctx context.Context, c provider.Claim) (provider.Place, error) {
	a, err := p.run(ctx, provider.CallWhere, c)
	if err == nil && a.Here == nil {
		err = errors.New(`provider: exec: the answer to describe has no "here"; it is true or false`)
	}
	if err != nil {
		return provider.Place{}, err
	}
	return provider.Place{Here: *a.Here, Where: clip(a.Where)}, nil
}

func (p *Provider) path() string {
	return filepath.Join(cmp.Or(p.cfg.Directory, provider.DefaultPrograms), p.cfg.Program)
}

// run makes one call, on a goroutine that ends with it.
func (p *Provider) run(ctx context.Context, call provider.CallKind, c provider.Claim) (Answer, error) {
	limit := cmp.Or(p.cfg.Timeout, provider.DefaultCall)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	path, err := rootonly.Program(p.path()) // it may have changed since the last one
	if err != nil {
		return Answer{}, fmt.Errorf("provider: exec: %w", err)
	}
	who, err := program.Credential(p.cfg.User)
	if err != nil {
		return Answer{}, fmt.Errorf("provider: exec: user: %w", err)
	}
	in, err := json.Marshal(request(call, c, limit))
	if err != nil {
		return Answer{}, fmt.Errorf("provider: exec: %w", err)
	}
	type result struct {
		out program.Output
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := program.Execute(ctx, program.Run{Path: path, Args: p.cfg.Args, User: who, Input: append(in, '\n'), Keep: answerMax, Most: answerMax, Apart: true})
		done <- result{out, err}
	}()
	r := <-done
	if r.err != nil {
		return Answer{}, fmt.Errorf("provider: exec: %s %s: %w%s", p.cfg.Program, call, r.err, said(r.out))
	}
	a, err := parse(r.out.Text)
	if err != nil {
		return Answer{}, fmt.Errorf("provider: exec: %s %s: %w%s", p.cfg.Program, call, err, said(r.out))
	}
	return a, nil
}

func request(call provider.CallKind, c provider.Claim, limit time.Duration) Request {
	r := Request{
		Version: Version, Call: call, HAVIP: c.Name, ID: c.HAVIP, Node: c.Node, ENI: c.ENI, Device: c.Device, MAC: c.MAC, Epoch: c.Epoch,
		Timeout: limit.Milliseconds(),
	}
	if c.Address.IsValid() {
		r.IP = c.Address.String()
	}
	if !c.Deadline.IsZero() {
		r.Deadline = c.Deadline.UnixMilli()
	}
	return r
}

// parse reads the one object that a program may write.
func parse(text []byte) (Answer, error) {
	var a Answer
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return Answer{}, errors.New("its answer is no JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&a); err != nil {
		return Answer{}, fmt.Errorf("its answer is no JSON object: %w", err)
	}
	if d.More() {
		return Answer{}, errors.New("it wrote more than one answer")
	}
	if a.Error != "" {
		return Answer{}, &provider.Error{Code: "Program", Message: clip(a.Error)}
	}
	return a, nil
}

// said is what a program wrote to standard error, for people.
func said(out program.Output) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out.Errors)), "\n")
	if line == "" {
		return ""
	}
	return ": " + clip(line)
}

// clip bounds what a program says of itself, and leaves one line of it.
func clip(text string) string {
	return plain.Clip(plain.Line(strings.ToValidUTF8(text, "?")), errorMax)
}
