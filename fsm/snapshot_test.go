package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// sealed puts a body into a snapshot of a version, with a checksum that is right.
func sealed(version uint16, body []byte) []byte {
	b := append([]byte(snapshotMagic), 0, 0)
	binary.BigEndian.PutUint16(b[8:], version)
	b = binary.BigEndian.AppendUint64(b, uint64(len(body)))
	b = append(b, body...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func bodyOf(snap []byte) []byte { return snap[snapshotHeader : len(snap)-sha256.Size] }

func wantCorrupt(t *testing.T, what string, snap []byte, want error) {
	t.Helper()
	s, err := ReadSnapshot(bytes.NewReader(snap))
	if s != nil || !errors.Is(err, want) {
		t.Errorf("%s: got %v, %v; want %v", what, s != nil, err, want)
	}
}

func TestSnapshotOfNothing(t *testing.T) {
	want := snapshot(t, New())
	s, err := ReadSnapshot(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snapshot(t, s), want) {
		t.Error("the empty state changes on its way through a snapshot")
	}
	if s.Nodes == nil || s.Sessions == nil || s.ENIs == nil || s.Subnets == nil || s.HAVIPs == nil || s.Tokens == nil {
		t.Error("a restored state has a nil map")
	}
}

func TestSnapshotCutAtEveryLength(t *testing.T) {
	snap := snapshot(t, policyStory(t).state)
	for n := range snap {
		wantCorrupt(t, "cut", snap[:n], ErrSnapshotCorrupt)
	}
}

func TestSnapshotWithOneChangedByte(t *testing.T) {
	snap := snapshot(t, policyStory(t).state)
	for i := range snap {
		for _, flip := range []byte{1, 0x80, 0xff} {
			changed := bytes.Clone(snap)
			changed[i] ^= flip
			want := ErrSnapshotCorrupt
			if i == 8 || i == 9 && (changed[9] == 0 || changed[9] > snapshotVersion) {
				want = ErrSnapshotVersion
			}
			wantCorrupt(t, "changed", changed, want)
		}
	}
}

func TestSnapshotRefused(t *testing.T) {
	snap := snapshot(t, policyStory(t).state)
	body := bodyOf(snap)
	longer := bytes.Clone(snap)
	binary.BigEndian.PutUint64(longer[10:], 1<<63)
	for _, tc := range []struct {
		name string
		snap []byte
		want error
	}{
		{"empty", nil, ErrSnapshotCorrupt},
		{"something else", bytes.Repeat([]byte("{}"), 100), ErrSnapshotCorrupt},
		{"trailing byte", append(bytes.Clone(snap), 0), ErrSnapshotCorrupt},
		{"twice", append(bytes.Clone(snap), snap...), ErrSnapshotCorrupt},
		{"impossible length", longer, ErrSnapshotCorrupt},
		{"version 0", sealed(0, body), ErrSnapshotVersion},
		{"next version", sealed(snapshotVersion+1, body), ErrSnapshotVersion},
		{"no JSON", sealed(snapshotVersion, []byte("nodes")), ErrSnapshotCorrupt},
		{"no body", sealed(snapshotVersion, nil), ErrSnapshotCorrupt},
		{"two bodies", sealed(snapshotVersion, append(bytes.Clone(body), body...)), ErrSnapshotCorrupt},
		{"unknown field", sealed(snapshotVersion, []byte(`{"index":1,"grapes":[]}`)), ErrSnapshotCorrupt},
		{"wrong type", sealed(snapshotVersion, []byte(`{"index":"1"}`)), ErrSnapshotCorrupt},
	} {
		wantCorrupt(t, tc.name, tc.snap, tc.want)
	}
}

func TestSnapshotPassesOnReadErrors(t *testing.T) {
	snap := snapshot(t, policyStory(t).state)
	broken := io.MultiReader(bytes.NewReader(snap[:40]), iotest.ErrReader(io.ErrUnexpectedEOF))
	if _, err := ReadSnapshot(broken); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrSnapshotCorrupt) {
		t.Errorf("got %v, want the reader's own error", err)
	}
}

func FuzzReadSnapshot(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, snap := range [][]byte{body, sealed(snapshotVersion, body)} {
			s, err := ReadSnapshot(bytes.NewReader(snap))
			if err != nil {
				if !errors.Is(err, ErrSnapshotCorrupt) && !errors.Is(err, ErrSnapshotVersion) {
					t.Fatalf("an error without a name: %v", err)
				}
				continue
			}
			// Whatever was read can be written, and is then the same for good.
			again, err := ReadSnapshot(bytes.NewReader(snapshot(t, s)))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(snapshot(t, again), snapshot(t, s)) {
				t.Fatal("written twice, it differs")
			}
		}
	})
}
