package shell

import (
	"testing"
	"time"
)

// The course says of each second what was worst in it.
func TestCourse(t *testing.T) {
	r := newRenewing(t, 1)
	start := int64(r.now) / int64(time.Second)
	for range 30 { // three seconds, one renewal of each second 40 ms late
		r.renew()
		if int64(r.now)%int64(time.Second) < int64(100*time.Millisecond) {
			r.now = r.now.Add(40 * time.Millisecond)
		}
	}
	all := r.renewer.Course(start)
	if len(all) < 2 {
		t.Fatalf("%+v", all)
	}
	s := all[1]
	if s.Rounds < 9 || s.Answered != s.Rounds || s.Late != 40*time.Millisecond || s.Trip != 0 {
		t.Errorf("%+v", s)
	}
	if s.Least <= 0 || s.Least > 400*time.Millisecond {
		t.Errorf("what was left: %v", s.Least)
	}
	if again := r.renewer.Course(s.At + 1); len(again) != len(all)-2 {
		t.Errorf("from %d on: %+v", s.At+1, again)
	}
	r.now = r.now.Add(courseSeconds * time.Second)
	if old := r.renewer.Course(0); len(old) != 0 {
		t.Errorf("what is too old: %+v", old)
	}
}
