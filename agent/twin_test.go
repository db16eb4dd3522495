package agent

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"havip-cluster/netdev"
)

// The MACs of the last start are known at the next one; on a host that has none of them they stay
// what they were, for the host that they are of may still answer.
func TestMACsAreRemembered(t *testing.T) {
	file := filepath.Join(t.TempDir(), macsFile)
	eni := func(last byte) netdev.ENI { return netdev.ENI{MAC: net.HardwareAddr{2, 0, 0, 0, 0, last}} }
	const one, two = "02:00:00:00:00:01", "02:00:00:00:00:02"
	for _, step := range []struct {
		name string
		now  []netdev.ENI
		want []string
	}{
		{"first start", []netdev.ENI{eni(1)}, nil},
		{"second start", []netdev.ENI{eni(1)}, []string{one}},
		{"one more interface", []netdev.ENI{eni(1), eni(2)}, []string{one}},
		{"the first one is gone", []netdev.ENI{eni(2)}, []string{one, two}},
		{"copied to another host", []netdev.ENI{eni(9)}, []string{two}},
		{"and started there again", []netdev.ENI{eni(9)}, []string{two}},
	} {
		if got, err := rememberMACs(file, step.now); err != nil || !slices.Equal(got, step.want) {
			t.Errorf("%s: %v, want %v: %v", step.name, got, step.want, err)
		}
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := rememberMACs(file, []netdev.ENI{eni(1)}); got != nil {
		t.Errorf("a damaged file: %v", got)
	}
	if got, _ := rememberMACs(file, []netdev.ENI{eni(1)}); !slices.Equal(got, []string{one}) {
		t.Errorf("and then: %v", got)
	}

	// A full disk costs nothing that is known: the new text is written beside the old one.
	old := file + ".old"
	if err := os.Link(file, old); err != nil {
		t.Fatal(err)
	}
	if _, err := rememberMACs(file, []netdev.ENI{eni(1), eni(2)}); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(old); err != nil || string(text) != `["`+one+`"]` {
		t.Errorf("the old text became %s: %v", text, err)
	}
	if err := os.MkdirAll(filepath.Join(file+".tmp", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := rememberMACs(file, []netdev.ENI{eni(1)}); err == nil || !slices.Equal(got, []string{one, two}) {
		t.Errorf("it cannot be written: %v, %v", got, err)
	}
	if got, _ := rememberMACs(file, []netdev.ENI{eni(1)}); !slices.Equal(got, []string{one, two}) {
		t.Errorf("and then: %v", got)
	}
}
