package datagram

import (
	"bytes"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"

	"havip-cluster/membership/identity"
)

// The window agrees with a set that forgets nothing, but for what is too far behind.
func TestWindowAgainstASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		seen := map[uint64]bool{}
		newest := uint64(0)
		for range rapid.IntRange(1, 400).Draw(t, "frames") {
			near := rapid.Uint64Range(max(newest, 3000)-3000, newest+200).Draw(t, "near")
			number := rapid.SampledFrom([]uint64{near, near, near, newest + 1, newest, 0, newest + 100_000}).Draw(t, "number")
			want := number != 0 && !seen[number] && (number > newest || newest-number < windowSize)
			if got := w.fresh(number); got != want {
				t.Fatalf("frame %d of newest %d: %t, want %t", number, newest, got, want)
			}
			if want {
				w.mark(number)
				seen[number] = true
				newest = max(newest, number)
			}
		}
	})
}

func pairOf(t testing.TB) (ab, ba *pair) {
	t.Helper()
	a, b := newKey(t), newKey(t)
	return pairWith(t, cluster, a, b)
}

func pairWith(t testing.TB, cluster string, a, b identity.DatagramKey) (ab, ba *pair) {
	t.Helper()
	ab, err := newPair(cluster, "n-a", a, "n-b", record(b))
	if err != nil {
		t.Fatal(err)
	}
	if ba, err = newPair(cluster, "n-b", b, "n-a", record(a)); err != nil {
		t.Fatal(err)
	}
	return ab, ba
}

// Both ends derive the same keys, those of the two directions differ, and so does every part
// that goes into them.
func TestKeysOfAPair(t *testing.T) {
	a, b := newKey(t), newKey(t)
	ab, ba := pairWith(t, cluster, a, b)
	key := func(p *pair, label string, outward bool, channel, invite uint64) string {
		t.Helper()
		k, err := p.expand(label, outward, channel, invite)
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(k)
	}
	if key(ab, labelFrame, true, 1, 2) != key(ba, labelFrame, false, 1, 2) {
		t.Error("the two ends have different keys")
	}
	renewed := b
	renewed.Certificate = a.Certificate[:8] + b.Certificate[8:]
	other, _ := pairWith(t, cluster, a, renewed)
	foreign, _ := pairWith(t, "c-ffffffffffffffff", a, b)
	seen := map[string]string{}
	for what, k := range map[string]string{
		"out": key(ab, labelFrame, true, 1, 2), "in": key(ab, labelFrame, false, 1, 2), "control": key(ab, labelControl, true, 1, 2),
		"channel": key(ab, labelFrame, true, 2, 2), "invitation": key(ab, labelFrame, true, 1, 3),
		"certificate": key(other, labelFrame, true, 1, 2), "cluster": key(foreign, labelFrame, true, 1, 2),
	} {
		if same, known := seen[k]; known {
			t.Errorf("%s and %s have one key", what, same)
		}
		seen[k] = what
	}
}

// The bytes of a frame are a format: kernel programs and other releases read them.
func TestFrameLayout(t *testing.T) {
	h := header{protectSealed, typeMessage, 0x0102030405060708, 0x1112131415161718, 0x21222324, 0x31323334, 0x4142434445464748, 0x5152535455565758, 9}
	b := make([]byte, headerBytes+tagBytes)
	h.put(b)
	const want = "01010000212223240102030405060708" + "11121314151617183132333400000000" + "41424344454647485152535455565758" + "0000000000000009" + "00000000000000000000000000000000"
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
	var back header
	if why := back.parse(b); why != "" || back != h {
		t.Errorf("%q: %+v", why, back)
	}
}

// Whatever is changed in a frame, it is not taken; and what is taken is what was said.
func TestMangledFrames(t *testing.T) {
	ab, ba := pairOf(t)
	rapid.Check(t, func(t *rapid.T) {
		aead, err := ab.sealer(true, 5, 7)
		if err != nil {
			t.Fatal(err)
		}
		s := sending{pair: ab, aead: aead, channel: 5, invite: 7}
		r := receiving{next: 7}
		for range rapid.IntRange(1, 5).Draw(t, "frames") {
			message := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "message")
			frame, ok := s.seal(nil, 1, 2, message)
			if !ok {
				t.Fatal("not sealed")
			}
			open := func(frame []byte) ([]byte, cause) {
				var h header
				if why := h.parse(frame); why != "" {
					return nil, why
				}
				if h.from != 1 || h.to != 2 || h.fromKey != ownKey(ab.own) || h.toKey != ownKey(ba.own) || h.protection != protectSealed {
					return nil, causeKey // the socket looks these up
				}
				return r.open(&h, ba, frame)
			}
			bad := bytes.Clone(frame)
			bad[rapid.IntRange(0, len(bad)-1).Draw(t, "at")] ^= rapid.ByteRange(1, 255).Draw(t, "by")
			if _, why := open(bad); why == "" {
				t.Fatal("a mangled frame is taken")
			}
			got, why := open(bytes.Clone(frame))
			if why != "" || !bytes.Equal(got, message) {
				t.Fatalf("%q: %x, want %x", why, got, message)
			}
			if _, why := open(bytes.Clone(frame)); why == "" {
				t.Fatal("a frame is taken twice")
			}
		}
	})
}

// FuzzTake: no bytes from the network do more than to be counted.
func FuzzTake(f *testing.F) {
	ab, _ := pairOf(f)
	h := header{protectControl, typeHello, 1, 2, 3, 4, 5, 6, 7}
	b := make([]byte, headerBytes+tagBytes)
	h.put(b)
	ab.tag(b)
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h header
		if why := h.parse(b); why != "" {
			return
		}
		again := make([]byte, len(b))
		h.put(again)
		if !bytes.Equal(again[:headerBytes], b[:headerBytes]) {
			t.Errorf("%x is read as %x", b[:headerBytes], again[:headerBytes])
		}
		r := receiving{next: h.invite}
		if _, why := r.open(&h, ab, bytes.Clone(b)); why == "" {
			t.Error("taken")
		}
	})
}
