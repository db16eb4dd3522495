// Package history holds what a run recorded: probes, an observer's answers, operations
// and faults. The records are plain data without behaviour, so that a checker can judge
// a run again years later from its file alone.
//
// Every time is an int64 of nanoseconds since the start of the run, on a clock that never
// steps. Zero in a field that ends something means that the end was never seen.
package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// lineBytesMax bounds one line of a file: an operation carries an API body, nothing larger.
const lineBytesMax = 4 << 20

// ErrFormat is returned by Decode when a line is not exactly one record of this package.
var ErrFormat = errors.New("history: not a history record")

// The kinds of Series.
const (
	Probing   = "probe"   // a client asks a HAVIP as any client would
	Observing = "observe" // an observer asks every node directly for a HAVIP
	Sampling  = "sample"  // the fence of a node, its maps read from outside; Target is the node
	Capturing = "capture" // every frame that a node sends in the name of a HAVIP; Target is the node
)

// The two ways in which an observer asks.
const (
	ARP = "arp"
	UDP = "udp"
)

// Outcome says how an operation ended. A lost reply is Unknown: the operation may have
// taken effect, or may still do so, at any time after its invocation.
type Outcome string

// The outcomes of an operation.
const (
	OK      Outcome = "ok"
	Fail    Outcome = "fail"    // certainly without effect
	Unknown Outcome = "unknown" // with effect or without
)

// Series announces that somebody asked for Target, every Every, Count times, whether
// answered or not. Without it silence cannot be told from nobody having asked.
type Series struct {
	Kind   string `json:"kind"` // Probing or Observing
	From   string `json:"from"`
	Target string `json:"target"`
	Every  int64  `json:"every"` // ns between two questions
	Count  uint64 `json:"count"` // questions asked; skipped ticks are not
}

// Probe is one datagram of a client to a HAVIP.
// Invariant: Answered == 0 or Sent < Answered.
type Probe struct {
	From     string `json:"from"`
	Target   string `json:"target"`
	Seq      uint64 `json:"seq"`
	Sent     int64  `json:"sent"`
	Answered int64  `json:"answered,omitempty"` // 0: never
	Node     string `json:"node,omitempty"`     // who answered
}

// Answer is one answer of one node to an observer. It proves that the node answered for
// the HAVIP at some instant within [Sent, Received], and says nothing of any other instant.
// Unanswered questions are not recorded: the poll numbers of the others show them.
type Answer struct {
	From     string `json:"from"` // the observer
	HAVIP    string `json:"havip"`
	Poll     uint64 `json:"poll"` // an observer asks all nodes at every tick; this is the tick's number, from 1
	Node     string `json:"node"`
	Channel  string `json:"channel"` // ARP or UDP
	Sent     int64  `json:"sent"`
	Received int64  `json:"received"`
}

// Op is one operation of a client, with all its repeats under one Idempotency-Key.
type Op struct {
	Client   string          `json:"client"`
	Node     string          `json:"node,omitempty"` // whose agent was asked last
	Verb     string          `json:"verb"`
	Key      string          `json:"key,omitempty"` // name of the object
	Input    json.RawMessage `json:"input,omitempty"`
	Output   json.RawMessage `json:"output,omitempty"`
	Invoke   int64           `json:"invoke"`
	Return   int64           `json:"return,omitempty"` // 0: never
	Outcome  Outcome         `json:"outcome"`
	Code     string          `json:"code,omitempty"`     // of a refusal
	Index    uint64          `json:"index,omitempty"`    // of the state that the answer was made from
	Attempts int             `json:"attempts,omitempty"` // requests sent
}

// Fault is one thing that a nemesis broke.
type Fault struct {
	Name   string `json:"name"`
	Target string `json:"target,omitempty"`
	Begin  int64  `json:"begin"`
	End    int64  `json:"end,omitempty"` // 0: never healed
	// Outage: it may take the majority away, alone or with another one at the same time, so
	// no service is owed while it lasts.
	Outage bool `json:"outage,omitempty"`
}

// History is one run. Each slice is in the order in which its recorder wrote.
type History struct {
	Runs    []Run
	Series  []Series
	Probes  []Probe
	Answers []Answer
	Ops     []Op
	Faults  []Fault
	Kernel  []Kernel
	Frames  []Frames
	Usage   []Usage
	Marks   []Mark
	Changes []Change
}

// record is one line: exactly one field is set.
type record struct {
	Run    *Run    `json:"run,omitempty"`
	Series *Series `json:"series,omitempty"`
	Probe  *Probe  `json:"probe,omitempty"`
	Answer *Answer `json:"answer,omitempty"`
	Op     *Op     `json:"op,omitempty"`
	Fault  *Fault  `json:"fault,omitempty"`
	Kernel *Kernel `json:"kernel,omitempty"`
	Frames *Frames `json:"frames,omitempty"`
	Usage  *Usage  `json:"usage,omitempty"`
	Mark   *Mark   `json:"mark,omitempty"`
	Change *Change `json:"change,omitempty"`
}

// Encode writes h as JSON lines, one record a line.
func Encode(w io.Writer, h *History) error {
	buffered := bufio.NewWriter(w)
	enc := json.NewEncoder(buffered)
	err := errors.Join(
		encodeAll(enc, h.Runs, func(v *Run) record { return record{Run: v} }),
		encodeAll(enc, h.Series, func(v *Series) record { return record{Series: v} }),
		encodeAll(enc, h.Probes, func(v *Probe) record { return record{Probe: v} }),
		encodeAll(enc, h.Answers, func(v *Answer) record { return record{Answer: v} }),
		encodeAll(enc, h.Ops, func(v *Op) record { return record{Op: v} }),
		encodeAll(enc, h.Faults, func(v *Fault) record { return record{Fault: v} }),
		encodeAll(enc, h.Kernel, func(v *Kernel) record { return record{Kernel: v} }),
		encodeAll(enc, h.Frames, func(v *Frames) record { return record{Frames: v} }),
		encodeAll(enc, h.Usage, func(v *Usage) record { return record{Usage: v} }),
		encodeAll(enc, h.Marks, func(v *Mark) record { return record{Mark: v} }),
		encodeAll(enc, h.Changes, func(v *Change) record { return record{Change: v} }),
		buffered.Flush(),
	)
	if err != nil {
		return fmt.Errorf("history: encode: %w", err)
	}
	return nil
}

func encodeAll[T any](enc *json.Encoder, list []T, wrap func(*T) record) error {
	for i := range list {
		if err := enc.Encode(wrap(&list[i])); err != nil {
			return err
		}
	}
	return nil
}

// Decode reads what Encode wrote. Files may be concatenated, and empty lines are ignored.
func Decode(r io.Reader) (*History, error) {
	h := &History{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, lineBytesMax)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if err := h.add(lines.Bytes()); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("history: decode: %w", err)
	}
	return h, nil
}

func (h *History) add(line []byte) error {
	var rec record
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rec); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if dec.More() {
		return fmt.Errorf("%w: more than one value", ErrFormat)
	}
	set := 0
	set += appendTo(&h.Runs, rec.Run)
	set += appendTo(&h.Series, rec.Series)
	set += appendTo(&h.Probes, rec.Probe)
	set += appendTo(&h.Answers, rec.Answer)
	set += appendTo(&h.Ops, rec.Op)
	set += appendTo(&h.Faults, rec.Fault)
	set += appendTo(&h.Kernel, rec.Kernel)
	set += appendTo(&h.Frames, rec.Frames)
	set += appendTo(&h.Usage, rec.Usage)
	set += appendTo(&h.Marks, rec.Mark)
	set += appendTo(&h.Changes, rec.Change)
	if set != 1 {
		return fmt.Errorf("%w: %d records", ErrFormat, set)
	}
	return nil
}

func appendTo[T any](list *[]T, v *T) int {
	if v == nil {
		return 0
	}
	*list = append(*list, *v)
	return 1
}
