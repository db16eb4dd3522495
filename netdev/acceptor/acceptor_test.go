package acceptor

import (
	"errors"
	"testing"
)

func open(t *testing.T) *Acceptor {
	t.Helper()
	page, err := NewPage()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { page.Close() })
	a, err := Open(page, 7403)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(a.Close)
	return a
}

func TestOpen(t *testing.T) { open(t) }

// A session is delegated once: the place of its entry is never filled again before it was recalled.
func TestGrantedOnce(t *testing.T) {
	a, d := open(t), trial
	if err := a.Grant(d); err != nil {
		t.Fatal(err)
	}
	for _, channel := range []uint64{d.Channel.Number, 99} {
		again := d
		again.Channel.Number = channel
		if err := a.Grant(again); !errors.Is(err, ErrGranted) {
			t.Errorf("by channel %#x: %v", channel, err)
		}
	}
	other := d
	if other.Session++; a.Grant(other) == nil {
		t.Error("another session by the same channel takes its place")
	}
	if _, known, err := a.Recall(d.Session); !known || err != nil {
		t.Errorf("recalled: %v, %v", known, err)
	}
	if _, known, err := a.Recall(d.Session); known || err != nil {
		t.Errorf("recalled once more: %v, %v", known, err)
	}
	if err := a.Grant(d); err != nil {
		t.Errorf("after its recall: %v", err)
	}
}
