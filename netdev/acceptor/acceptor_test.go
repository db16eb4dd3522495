package acceptor

import "testing"

func TestOpen(t *testing.T) {
	page, err := NewPage()
	if err != nil {
		t.Fatal(err)
	}
	a, err := Open(page, 7403)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	a.Close()
}
