package fsm

import "testing"

// TestNoBatch: a command that makes one change has no batch, and may tell it what it likes.
func TestNoBatch(t *testing.T) {
	var none *batch
	v, w := HAVIP{ID: "h-1", Name: "a"}, HAVIP{ID: "h-1", Name: "b"}
	none.created(v)
	none.renamed(v, w)
	none.dropName(w)
	none.deleted(w)
	none.remember("v", nil)
	if _, known := none.usersOf("v"); known || none.next() != 0 {
		t.Error("it knows something")
	}
}
