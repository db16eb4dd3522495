package reach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"
)

func TestReasons(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := Connect(t.Context(), &net.Dialer{}, address, []byte("label")); err != nil {
		t.Errorf("somebody listens: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := reason(Connect(t.Context(), &net.Dialer{}, address, nil)); got != Refused {
		t.Errorf("nobody listens: %q", got)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if got := reason(Connect(short, &net.Dialer{}, address, nil)); got != TimedOut {
		t.Errorf("no time: %q", got)
	}
	if got := reason(fmt.Errorf("ping: %w", ErrNoAnswer)); got != NoAnswer {
		t.Errorf("no answer: %q", got)
	}
	if got := reason(errors.New("something")); got != Failed {
		t.Errorf("else: %q", got)
	}
}

// What changes is told once; what stays is not told.
func TestChangesAreTold(t *testing.T) {
	var told [][]Failure
	p := Prober{Changed: func(f []Failure) { told = append(told, f) }}
	one := []Failure{{Probe{"b", API}, TimedOut, time.Unix(1, 0)}}
	for _, now := range [][]Failure{nil, one, slices.Clone(one), one, nil, nil} {
		p.tell(now)
		if !slices.Equal(p.Failures(), now) {
			t.Errorf("Failures: %v, want %v", p.Failures(), now)
		}
	}
	if len(told) != 2 || !slices.Equal(told[0], one) || len(told[1]) != 0 {
		t.Errorf("told: %v", told)
	}
}
