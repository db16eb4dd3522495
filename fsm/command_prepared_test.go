package fsm

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// What the short ways of writing and reading a command give is, byte for byte and value for value, what the long ones give;
// and what carries a command out leaves its body as it is, because it is carried out again.
func TestPreparedIsTheSame(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/log-*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden logs: %v", err)
	}
	count := 0
	for _, file := range files {
		state := New()
		for i, entry := range readGoldenLog(t, file) {
			count++
			want, err := DecodeCommand(entry)
			if err != nil {
				t.Fatal(err)
			}
			p, err := Prepare(want.body)
			if err != nil {
				t.Fatal(err)
			}
			c, err := NewCommand(want.At, want.By, want.Key, p)
			if err != nil {
				t.Fatal(err)
			}
			c.Term, c.Caller = want.Term, want.Caller
			long := c
			long.made = false
			short, err := c.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if old, err := long.Encode(); err != nil || !bytes.Equal(short, old) {
				t.Fatalf("%s %d: %v\n%s\nis in the long way\n%s", file, i, err, short, old)
			}
			got, err := DecodeKnown(short, &c)
			again, errLong := DecodeCommand(short)
			if err != nil || errLong != nil || got.body != c.body {
				t.Fatalf("%s %d: %v, %v: the known body is read again", file, i, err, errLong)
			}
			if !reflect.DeepEqual(got, again) {
				t.Fatalf("%s %d:\n%+v\nis in the long way\n%+v", file, i, got, again)
			}
			next, _, err := Apply(state, state.Index+1, got)
			if err != nil {
				t.Fatal(err)
			}
			state = next
			if after, err := json.Marshal(plainBody(got.body)); err != nil || !bytes.Equal(after, c.Body) {
				t.Fatalf("%s %d: %v: carried out, the body %s is %s", file, i, err, c.Body, after)
			}
		}
	}
	if count < 50 {
		t.Fatalf("only %d commands", count)
	}
}

// What is not, byte for byte, what this node has proposed is read as ever; nothing but the body is taken from what it knows.
func TestKnownIsOnlyTheBody(t *testing.T) {
	mine, err := NewCommand(1, "n1", "", CreateToken{Token{ID: "a", SecretHash: strings.Repeat("0", 64)}})
	if err != nil {
		t.Fatal(err)
	}
	mine.Caller = &Caller{Principal: "bad\xff"}
	entry, err := mine.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeKnown(entry, &mine)
	if err != nil || got.Caller.Principal != "bad\ufffd" {
		t.Errorf("what every other node reads is %q: %v", got.Caller.Principal, err)
	}
	other := mine
	other.Body = bytes.Replace(mine.Body, []byte(`"a"`), []byte(`"b"`), 1)
	if got, err := DecodeKnown(entry, &other); err != nil || got.body.(*CreateToken).Token.ID != "a" {
		t.Errorf("another body is known: %+v, %v", got.body, err)
	}
	kind := mine
	kind.Kind = "delete-token"
	if got, err := DecodeKnown(entry, &kind); err != nil || got.Kind != mine.Kind || got.body == nil {
		t.Errorf("another kind is known: %+v, %v", got, err)
	}
	for _, bad := range [][]byte{nil, {1}, append([]byte{99}, entry[1:]...), entry[:len(entry)-1], append(append([]byte(nil), entry...), '}')} {
		if _, err := DecodeKnown(bad, &mine); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if refusal := New().Permits(Caller{Principal: "x", Right: RightViewer}, ready(Prepare(CreateCredential{}))); refusal == nil || refusal.Code != CodeDenied {
		t.Errorf("a viewer may propose what is prepared: %v", refusal)
	}
	if refusal := New().Permits(Caller{Principal: "x", Right: RightViewer}, ready(Prepare(Place{}))); refusal == nil || refusal.Code != CodeDenied {
		t.Errorf("a viewer may place: %v", refusal)
	}
}

func ready(p *Prepared, err error) *Prepared {
	if err != nil {
		panic(err)
	}
	return p
}
