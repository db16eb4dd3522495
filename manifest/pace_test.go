package manifest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// What nobody waits for is not read on, whatever the form.
func TestReadingEndsWithItsContext(t *testing.T) {
	for name, text := range map[string]string{
		"YAML": "version: 1\nhavips:\n" + strings.Repeat("  - {name: a, ip: 10.0.0.1}\n", 100000),
		"JSON": `{"version": 1, "havips": [` + strings.Repeat(`{"name": "a", "ip": "10.0.0.1"},`, 100000) + `{}]}`,
	} {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		began := time.Now()
		if _, _, err := DecodeFor(ctx, []byte(text)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		late, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
		defer cancel()
		if _, _, err := DecodeFor(late, []byte(text)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v after %s", name, err, time.Since(began))
		}
	}
}

// A long reading rests, a short one does not, and what they give is the same.
func TestBreaks(t *testing.T) {
	p := &pacer{ctx: context.Background(), rests: true}
	for range paceFrom {
		must(t, p.look())
	}
	time.Sleep(2 * breakMax)
	began := time.Now()
	must(t, p.look())
	if time.Since(began) < breakMax {
		t.Error("no break")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
