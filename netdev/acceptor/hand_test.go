package acceptor

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

// A session is delegated once: the place of its entry is never filled again before it was recalled.
func TestGrantedOnce(t *testing.T) {
	a, d := newBed(t).Acceptor, trial
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

// While frames come in on another core, a session is delegated and recalled again and again: each renewal that was
// answered is known after the next recall, and none is answered twice.
func TestNothingIsLostBetweenTwoHands(t *testing.T) {
	a, d := newBed(t).Acceptor, trial
	var page acceptorPage
	if err := a.objects.Page.Lookup(uint32(0), &page); err != nil {
		t.Fatal(err)
	}
	d.Suspended = int64(page.Word[PageSuspended])
	var over atomic.Bool
	answered := make(chan uint64, 1)
	go func() {
		var n uint64
		defer func() { answered <- n }()
		for round := uint64(1); !over.Load(); round++ {
			frame := d.renewal(port, round, int64(round))
			for range 2 {
				verdict, _, err := a.Try(frame)
				if err != nil {
					t.Error(err)
					return
				}
				if verdict == VerdictRedirect {
					n++
				}
			}
		}
	}()
	var acked, recalls uint64
	start := time.Now() // on a busy host the two may not be on two cores for long
	for ; time.Since(start) < 300*time.Millisecond || acked == 0 && time.Since(start) < 40*time.Second; recalls++ {
		if err := a.Grant(d); err != nil {
			t.Fatal(err)
		}
		p, known, err := a.Recall(d.Session)
		if !known || err != nil {
			t.Fatalf("recall: %v, %v", known, err)
		}
		if p.Round < d.Round || p.Sent < d.Sent || p.Until < d.Until || p.Acked > p.Round-d.Round {
			t.Fatalf("it promised %+v after %+v", p, d.Progress)
		}
		acked += p.Acked
		d.Progress = p
	}
	over.Store(true)
	if n := <-answered; n != acked || n == 0 {
		t.Errorf("%d renewals were answered, and %d are known after %d recalls", n, acked, recalls)
	} else {
		t.Logf("%d renewals, %d recalls", n, recalls)
	}
}
