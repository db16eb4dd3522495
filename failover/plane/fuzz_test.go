package plane

import (
	"bytes"
	"testing"
)

// FuzzPacket: a packet is taken apart as it was put together, or not at all.
func FuzzPacket(f *testing.F) {
	for _, b := range [][]byte{nil, {1}, {1, 0}, {1, 3, 'n', '-', '1', 2, 9}, {2, 255, 'x'}, {9, 1, 'a'}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, node, word, ok := parse(b)
		if ok && !bytes.Equal(put(nil, kind, string(node), word), b) {
			t.Errorf("%x became %d %q %x", b, kind, node, word)
		}
	})
}
