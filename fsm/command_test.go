package fsm

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestCommandRoundTrip(t *testing.T) {
	for _, entry := range policyStory(t).log {
		c, err := DecodeCommand(entry)
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, entry) {
			t.Errorf("%s changes when it is read and written\n%s\n%s", c.Kind, entry, again)
		}
	}
}

func TestDecodeCommandRefuses(t *testing.T) {
	v1 := func(json string) []byte { return append([]byte{1}, json...) }
	for _, tc := range []struct {
		name  string
		entry []byte
		want  error
	}{
		{"nothing", nil, ErrCommandCorrupt},
		{"version alone", []byte{1}, ErrCommandCorrupt},
		{"too long", append(v1(`{}`), bytes.Repeat([]byte(" "), MaxCommand)...), ErrCommandCorrupt},
		{"version 0", []byte("\x00{}"), ErrCommandVersion},
		{"next version", []byte("\x03{}"), ErrCommandVersion},
		{"JSON without a version", []byte(`{"kind":"place"}`), ErrCommandVersion},
		{"no JSON", v1("place"), ErrCommandCorrupt},
		{"cut", v1(`{"kind":"set-lease","at":1,"body":{"lease":5000000`), ErrCommandCorrupt},
		{"unknown kind", v1(`{"kind":"split-brain","at":1,"body":{}}`), ErrCommandVersion},
		{"no kind", v1(`{"at":1,"body":{}}`), ErrCommandVersion},
		{"no body", v1(`{"kind":"set-lease","at":1}`), ErrCommandCorrupt},
		{"unknown field", v1(`{"kind":"set-lease","at":1,"body":{},"why":""}`), ErrCommandCorrupt},
		{"unknown field of the body", v1(`{"kind":"set-lease","at":1,"body":{"length":1}}`), ErrCommandCorrupt},
		{"wrong type", v1(`{"kind":"set-lease","at":1,"body":{"lease":"1s"}}`), ErrCommandCorrupt},
		{"bytes after the end", v1(`{"kind":"set-lease","at":1,"body":{}}{}`), ErrCommandCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := DecodeCommand(tc.entry); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// A command that no node of this version can read stops it, and changes nothing.
func TestApplyStopsAtWhatItCannotRead(t *testing.T) {
	w := trio(t)
	for _, tc := range []struct {
		c    Command
		want error
	}{
		{Command{Kind: "split-brain", Body: []byte(`{}`)}, ErrCommandVersion},
		{Command{Kind: "set-lease", Body: []byte(`[]`)}, ErrCommandCorrupt},
		{Command{Kind: "set-lease"}, ErrCommandCorrupt},
	} {
		next, _, err := Apply(w.state, w.state.Index+1, tc.c)
		if !errors.Is(err, tc.want) || next != w.state {
			t.Errorf("%+v: got %v and another state: %v, want %v", tc.c, err, next != w.state, tc.want)
		}
	}
}

func TestEncodeRefusesWhatDoesNotFit(t *testing.T) {
	c, err := NewCommand(1, "n-n1", "", UpdateNode{ID: strings.Repeat("x", MaxCommand)})
	if err != nil {
		t.Fatal(err)
	}
	var refusal *Refusal
	if _, err := c.Encode(); !errors.As(err, &refusal) || refusal.Code != CodeLimit {
		t.Errorf("got %v, want a refusal with %s", err, CodeLimit)
	}
}

// The largest placement that the log takes fits into one entry, with the longest reasons.
func TestLargestPlacementFits(t *testing.T) {
	a := Assignment{
		HAVIP: "havip-01234567", FromEpoch: 1 << 40, Node: "n-0123456789abcdef", Session: 1 << 40,
		ENI: strings.Repeat("n", 63) + "/" + strings.Repeat("d", 60), Reason: strings.Repeat("r", MaxReason),
	}
	b := Place{}
	for range MaxAssignments {
		b.Assignments = append(b.Assignments, a)
	}
	c, err := NewCommand(1, "n-n1", "", b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Encode(); err != nil {
		t.Error(err)
	}
}

func FuzzDecodeCommand(f *testing.F) {
	s := trio(f).state
	f.Fuzz(func(t *testing.T, entry []byte) {
		c, err := DecodeCommand(entry)
		if again, errKnown := DecodeKnown(entry, &c); (err == nil) != (errKnown == nil) || err == nil && !reflect.DeepEqual(again, c) {
			t.Fatalf("%q: read with the body known: %+v, %v; without: %+v, %v", entry, again, errKnown, c, err)
		}
		if err != nil {
			if !errors.Is(err, ErrCommandCorrupt) && !errors.Is(err, ErrCommandVersion) {
				t.Fatalf("an error without a name: %v", err)
			}
			return
		}
		once, err := c.Encode()
		if err != nil {
			t.Skip(err) // escaped, it has grown beyond MaxCommand
		}
		c2, err := DecodeCommand(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := c2.Encode(); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("written twice, it differs: %v\n%s\n%s", err, once, twice)
		}
		next, _, err := Apply(s, s.Index+1, c)
		if err != nil {
			t.Fatalf("decoded and not applied: %v", err)
		}
		if err := checkInvariants(next); err != nil {
			t.Fatal(err)
		}
	})
}
