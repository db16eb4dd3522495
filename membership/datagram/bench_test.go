package datagram

import "testing"

// What a datagram costs that nobody with a key sent.
func BenchmarkForeignFrame(b *testing.B) {
	ab, _ := pairOf(b)
	aead, err := ab.sealer(false, 5, 7)
	if err != nil {
		b.Fatal(err)
	}
	r := receiving{pair: ab, aead: aead, channel: 5, invite: 7}
	h := header{protectSealed, typeMessage, 1, 2, 3, 4, 5, 7, 9}
	frame := make([]byte, 200)
	h.put(frame)
	b.ReportAllocs()
	for b.Loop() {
		if why := h.parse(frame); why != "" {
			b.Fatal(why)
		}
		if _, why := r.open(&h, ab, frame); why != causeTag {
			b.Fatal(why)
		}
	}
}
