package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

var rewrite = flag.Bool("rewrite", false, "write the encodings into the golden files; commit the diff only if you can explain it")

var (
	wireSession  = lease.Session{Node: "n-0123456789abcdef", Number: 1234}
	wireQuestion = lease.QuestionID{Leader: "n-fedcba9876543210", Term: 7, Number: 99}
)

// wireMessages has one message of each kind, with a different value in every field. The
// order is that of the golden file: add at the end.
var wireMessages = []wireMessage{
	{"renewal", Message{From: "a", Renewal: &lease.Renewal{Session: wireSession, Round: 5, Sent: 6, Length: 7, Config: 8}}},
	{"ack", Message{From: "a", Ack: &lease.Ack{Session: wireSession, Round: 5, Sent: 6, Length: 7, Config: 8, From: "b"}}},
	{"hint", Message{From: "a", Hint: []lease.Session{wireSession, {Node: "c", Number: 2}}}},
	{"question", Message{From: "a", Question: &lease.Question{ID: wireQuestion, Session: wireSession, Config: 8, Length: 7}}},
	{"endorsement", Message{From: "a", Endorsement: &lease.Endorsement{Question: wireQuestion, Session: wireSession, Config: 8, From: "b"}}},
	{"released", Message{From: "a", Released: []ClaimMessage{{HAVIP: "havip-00000001", Epoch: 3, Session: 4, Failure: "no such device"}}}},
	{"ready", Message{From: "a", Ready: []ClaimMessage{{HAVIP: "havip-00000001", Epoch: 3, Session: 4}}}},
	{"activated", Message{From: "a", Activated: []ActivatedMessage{{HAVIP: "havip-00000001", Epoch: 3, Session: 4, Took: 6}}}},
	{"status", Message{From: "a", Status: &StatusMessage{Applied: 1 << 40}}},
	{"negative", Message{From: "a", Renewal: &lease.Renewal{Session: wireSession, Sent: -1, Length: -2}}},
	{"released-many", Message{From: "a", Released: []ClaimMessage{{HAVIP: "havip-00000001", Epoch: 3, Session: 4}, {HAVIP: "havip-00000002", Epoch: 5, Session: 6, Failure: "why"}}}},
	{"ready-many", Message{From: "a", Ready: []ClaimMessage{{HAVIP: "havip-00000001", Epoch: 3, Session: 4}, {HAVIP: "havip-00000002", Epoch: 5, Session: 6}}}},
	{"activated-many", Message{From: "a", Activated: []ActivatedMessage{{HAVIP: "havip-00000001", Epoch: 3, Session: 4, Took: 6}, {HAVIP: "havip-00000002", Epoch: 5, Session: 6, Took: 7}}}},
}

// sealedMessages are those of version 2, with boot ids and without a sender. The order is that of
// the golden file: add at the end.
func sealedMessages() []wireMessage {
	var out []wireMessage
	for _, c := range wireMessages {
		c.m.From = ""
		if c.m.Renewal != nil {
			r := *c.m.Renewal
			r.Boot = 1 << 60
			c.m.Renewal = &r
		}
		if c.m.Ack != nil {
			a := *c.m.Ack
			a.Boot = 1<<60 + 1
			c.m.Ack = &a
		}
		out = append(out, c)
	}
	return append(out, wireMessage{"correction", Message{Correction: &lease.Correction{Session: wireSession, Round: 5, From: "b", Boot: 1<<60 + 2}}},
		wireMessage{"recall", Message{Recall: []ClaimMessage{{HAVIP: "havip-00000001", Epoch: 3, Session: 4}, {HAVIP: "havip-00000002", Epoch: 5, Session: 4}}}},
		wireMessage{"ended", Message{Ended: &lease.Ended{Session: wireSession, From: "b"}}},
		wireMessage{"steps", Message{Steps: &StepsMessage{HAVIP: "havip-00000001", Epoch: 3, Session: 4, Said: 99, Whole: true, Steps: []StepTime{{StepApplied, 5}, {StepAnswered, 6}}}}},
		wireMessage{"clock", Message{Clock: &ClockMessage{Asked: 7, Answered: 8}}})
}

type wireMessage struct {
	name string
	m    Message
}

// Version 2 has every kind, and its bytes never change either.
func TestSealedWire(t *testing.T) {
	kinds := map[byte]bool{}
	var text strings.Builder
	for _, c := range sealedMessages() {
		b := EncodeAs(nil, VersionSealed, c.m)
		kinds[b[1]] = true
		got, err := Decode(b)
		if err != nil || !reflect.DeepEqual(got, c.m) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.m)
		}
		for n := range b {
			if _, err := Decode(b[:n]); !errors.Is(err, errDatagram) {
				t.Errorf("%s cut to %d of %d bytes: %v", c.name, n, len(b), err)
			}
		}
		fmt.Fprintf(&text, "%s %s\n", c.name, hex.EncodeToString(b))
	}
	if len(kinds) != int(KindEnd)-1 {
		t.Errorf("%d kinds of message were tried, there are %d", len(kinds), KindEnd-1)
	}
	const file = "testdata/wire-v2.txt"
	if *rewrite {
		if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || text.String() != string(want) {
		t.Errorf("the encoding has changed (%v):\n%s\nwant\n%s", err, text.String(), want)
	}
}

func TestWireRoundTrip(t *testing.T) {
	kinds := map[byte]bool{}
	for _, c := range wireMessages {
		b := Encode(nil, c.m)
		kinds[b[1]] = true
		got, err := Decode(b)
		if err != nil || !reflect.DeepEqual(got, c.m) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.m)
		}
		if again := Encode(nil, got); !bytes.Equal(again, b) {
			t.Errorf("%s: encoded again it is %x, first %x", c.name, again, b)
		}
	}
	if len(kinds) != int(KindActivatedMany) {
		t.Errorf("%d kinds of message were tried, there are %d", len(kinds), KindActivatedMany)
	}
}

// TestWireGolden: nodes of two versions talk to each other, so these bytes never change.
func TestWireGolden(t *testing.T) {
	var got strings.Builder
	for _, c := range wireMessages {
		fmt.Fprintf(&got, "%s %s\n", c.name, hex.EncodeToString(Encode(nil, c.m)))
	}
	const file = "testdata/wire-v1.txt"
	if *rewrite {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got.String() != string(want) {
		t.Errorf("the encoding has changed (%v):\n%s\nwant\n%s", err, got.String(), want)
	}
}

func TestWireRefuses(t *testing.T) {
	for _, c := range wireMessages {
		b := Encode(nil, c.m)
		for n := range b {
			if _, err := Decode(b[:n]); !errors.Is(err, errDatagram) {
				t.Errorf("%s cut to %d of %d bytes: %v", c.name, n, len(b), err)
			}
		}
		if _, err := Decode(append(bytes.Clone(b), 0)); !errors.Is(err, errDatagram) {
			t.Errorf("%s with a byte too many: %v", c.name, err)
		}
	}
	status := Encode(nil, Message{From: "a", Status: &StatusMessage{}})
	hint := func(n uint64) []byte {
		e := encoder{VersionGossip, byte(KindHint), 1, 'a'}
		e.u64(n)
		for range min(n, 100) {
			e.session(lease.Session{Node: "c", Number: 1})
		}
		return e
	}
	if _, err := Decode(hint(MaxHints)); err != nil {
		t.Errorf("a hint of %d sessions: %v", MaxHints, err)
	}
	for name, b := range map[string][]byte{
		"nothing":              nil,
		"another version":      append([]byte{VersionSealed + 1}, status[1:]...),
		"a correction in v1":   append(append([]byte{VersionGossip, byte(KindCorrection), 1, 'a'}, EncodeAs(nil, VersionSealed, Message{Correction: &lease.Correction{}})[2:]...), 0),
		"kind 0":               append([]byte{VersionGossip, 0}, status[2:]...),
		"a kind of the future": append([]byte{VersionGossip, byte(KindActivatedMany) + 1}, status[2:]...),
		"no sender":            Encode(nil, Message{Status: &StatusMessage{}}),
		"a hint of nobody":     hint(0),
		"a hint of too many":   hint(MaxHints + 1),
		"a hint of 2^63":       hint(1 << 63),
		"a string too long":    append([]byte{VersionGossip, byte(KindStatus), maxString + 1}, bytes.Repeat([]byte("a"), maxString+9)...),
		"no kind was said":     Encode(nil, Message{From: "a"}),
	} {
		if m, err := Decode(b); !errors.Is(err, errDatagram) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

// TestWireFits: whatever is in a message, it fits into one datagram of the carrier, and
// what had to be cut can still be read.
func TestWireFits(t *testing.T) {
	long := strings.Repeat("ü", 500)
	id := strings.Repeat("n", 500)
	s := lease.Session{Node: id, Number: 1<<64 - 1}
	q := lease.QuestionID{Leader: id, Term: 1<<64 - 1, Number: 1<<64 - 1}
	many := make([]lease.Session, 1000)
	for i := range many {
		many[i] = s
	}
	activations := slices.Repeat([]ActivatedMessage{{HAVIP: id}}, 100)
	claims := slices.Repeat([]ClaimMessage{{HAVIP: id}, {HAVIP: "havip-00000001"}, {HAVIP: id, Failure: long}}, 100)
	for _, m := range []Message{
		{From: id, Renewal: &lease.Renewal{Session: s}},
		{From: id, Ack: &lease.Ack{Session: s, From: id}},
		{From: id, Hint: many},
		{From: id, Question: &lease.Question{ID: q, Session: s}},
		{From: id, Endorsement: &lease.Endorsement{Question: q, Session: s, From: id}},
		{From: id, Released: []ClaimMessage{{HAVIP: id, Failure: long}}},
		{From: id, Activated: activations[:ActivationsFit(activations)]},
		{From: id, Released: claims[:ClaimsFit(claims)]},
		{From: id, Status: &StatusMessage{}},
	} {
		b := Encode(nil, m)
		got, err := Decode(b)
		if len(b) > MaxDatagram || err != nil {
			t.Errorf("%d bytes, at most %d; %v: %+v", len(b), MaxDatagram, err, m)
		}
		if w := got.Released; len(w) == 1 && w[0].Failure != strings.Repeat("ü", maxString/2) {
			t.Errorf("a reason of %d bytes became %q", len(long), w[0].Failure)
		}
	}
	if MaxHints < 8 || fsm.MaxNameRunes > maxString {
		t.Errorf("%d hints, ids of %d bytes", MaxHints, fsm.MaxNameRunes)
	}
}

// TestWireAllocations: a renewal is sent to every voter five times per lease.
func TestWireAllocations(t *testing.T) {
	m := wireMessages[0].m
	buf := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { Encode(buf, m) }); n != 0 {
		t.Errorf("encoding a renewal allocates %v times", n)
	}
}

func BenchmarkWireRenewal(b *testing.B) {
	m := wireMessages[0].m
	buf := make([]byte, 0, 256)
	raw := Encode(nil, m)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Encode(buf, m)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Decode(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// FuzzDecode: nothing from the network panics, and what is understood means the same when
// it is sent on.
func FuzzDecode(f *testing.F) {
	for _, c := range wireMessages {
		f.Add(Encode(nil, c.m))
	}
	for _, c := range sealedMessages() {
		f.Add(EncodeAs(nil, VersionSealed, c.m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		if again := EncodeAs(nil, b[0], m); !bytes.Equal(again, b) {
			t.Errorf("%x\nbecame\n%x", b, again)
		}
	})
}
