// Package labtest is what the tests of several packages share.
package labtest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// Patience for a question to be answered. The kernel repeats an ARP request after one second, so
// what was cut a moment ago may take that long to be reached, and a busy machine longer; what is cut needs no such wait.
const (
	PatienceOpen = 20 * time.Second
	PatienceCut  = 200 * time.Millisecond
)

// Main runs the tests, and fails when a goroutine outlives them. A test may start the test binary
// again with a text in the environment variable env: then child is called with the text instead,
// and its return is a failure. Without env there is no such test.
func Main(m *testing.M, env string, child func(text string) error) {
	if text := os.Getenv(env); text != "" {
		fmt.Fprintln(os.Stderr, child(text))
		os.Exit(1)
	}
	code := m.Run()
	if code == 0 {
		if err := NothingLeft(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// NothingLeft waits for the last goroutines longer than goleak itself, which gives them half a second: a busy machine may
// need it. The error has those that stay.
func NothingLeft(options ...goleak.Option) error {
	err := goleak.Find(options...)
	for end := time.Now().Add(PatienceOpen); err != nil && time.Now().Before(end); {
		err = goleak.Find(options...)
	}
	return err
}

// Host can answer at a port until stop is called.
type Host interface {
	Respond(port int) (stop func(), err error)
}

// Ready takes what New of a lab has returned: it is closed with the test, and every node answers
// at port. A machine on which there can be no lab fails the test: a skipped test proves nothing.
func Ready[L interface {
	Nodes() []H
	Close() error
}, H Host](t *testing.T, l L, err error, port int) L {
	t.Helper()
	if err != nil {
		t.Fatalf("these tests need root, or root of a user namespace: %v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, node := range l.Nodes() {
		t.Cleanup(Try(t, func() (func(), error) { return node.Respond(port) }))
	}
	return l
}

// Must fails the test at once for an error.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Try returns what f returns, and fails the test at once for an error.
func Try[T any](t *testing.T, f func() (T, error)) T {
	t.Helper()
	v, err := f()
	Must(t, err)
	return v
}

// KernelFrom reports whether this kernel is of that version, or newer.
func KernelFrom(major, minor int) bool {
	var name unix.Utsname
	var have [2]int
	if err := unix.Uname(&name); err != nil {
		panic(err)
	}
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &have[0], &have[1]); err != nil {
		panic(err)
	}
	return have[0] > major || have[0] == major && have[1] >= minor
}
