package membership

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
)

// BenchmarkEntryOf5000 compares one large entry with several smaller ones of the same bytes,
// written one after the other as a leader's pipeline does: the time until the first, and the
// last, is on disk. 900 KB are 5,000 assignments.
func BenchmarkEntryOf5000(b *testing.B) {
	const bytes = 900 << 10
	for _, parts := range []int{1, 5, 10} {
		b.Run(fmt.Sprintf("%dx%dKB", parts, bytes/parts>>10), func(b *testing.B) {
			store, err := openBolt(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			data := make([]byte, bytes/parts)
			index := uint64(0)
			for b.Loop() {
				for range parts {
					index++
					if err := store.StoreLog(&raft.Log{Index: index, Term: 1, Data: data}); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N*parts), "first-ms")
		})
	}
}
