package mutant

import "testing"

func TestSet(t *testing.T) {
	defer func(before []string) { planted = before; Set("") }(planted)
	planted = []string{"one", "two"}
	if Active("one") || Active("") {
		t.Error("a bug is on from the beginning")
	}
	Set("one")
	if !Active("one") || Active("two") {
		t.Error("one is not the only one that is on")
	}
	Set("")
	if Active("one") {
		t.Error("one is still on")
	}
	defer func() {
		if recover() == nil {
			t.Error("a bug that this build does not have was switched on")
		}
	}()
	Set("three")
}
