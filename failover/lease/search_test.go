package lease

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The number of histories takes a few seconds on one core, or a minute under the race
// detector. A nightly run sets HAVIP_SEARCH_HISTORIES and HAVIP_SEARCH_SEED.
const (
	searchHistories = 600
	searchSeed      = 1
)

func searchSetting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// TestSearch plays random histories of faults: never two owners, and service again after
// the faults.
func TestSearch(t *testing.T) { search(t, false) }

// Sets of one, two and three voters, as two hosts have when one of them hands its vote over and takes it back.
func TestFewVotersSearch(t *testing.T) { search(t, true) }

func search(t *testing.T, few bool) {
	t.Helper()
	histories := searchSetting(t, "HAVIP_SEARCH_HISTORIES", searchHistories)
	if few && histories == searchHistories {
		histories /= 3
	}
	seed := searchSetting(t, "HAVIP_SEARCH_SEED", searchSeed)
	t.Logf("seed %d, %d histories", seed, histories)
	begin := time.Now()
	var total simStats
	for i := range histories {
		s := newSimOf(seed+i, false, few)
		s.run()
		s.stats.Histories = 1
		total.add(s.stats)
		if s.violation != "" {
			t.Fatal(replay(seed+i, few))
		}
	}
	t.Logf("%+v in %v", total, time.Since(begin).Round(ms))
	total.mustAllHaveHappened(t)
}

// replay plays a history again, with a record of what happened.
func replay(seed uint64, few bool) string {
	const lines = 80
	s := newSimOf(seed, true, few)
	s.run()
	trace := s.trace[max(0, len(s.trace)-lines):]
	return fmt.Sprintf("HAVIP_SEARCH_SEED=%d HAVIP_SEARCH_HISTORIES=1: at %v, %s\n%+v\n%s",
		seed, s.now, s.violation, s.profile, strings.Join(trace, "\n"))
}

func TestSearchReplays(t *testing.T) {
	if a, b := replay(searchSeed, true), replay(searchSeed, true); a != b {
		t.Errorf("one seed, two histories:\n%s\n\n%s", a, b)
	}
}

func (st *simStats) add(more simStats) {
	sum, v := reflect.ValueOf(st).Elem(), reflect.ValueOf(more)
	for i := range v.NumField() {
		sum.Field(i).SetInt(sum.Field(i).Int() + v.Field(i).Int())
	}
}

// mustAllHaveHappened: a search in which something never happens proves nothing about it.
func (st *simStats) mustAllHaveHappened(t *testing.T) {
	t.Helper()
	v := reflect.ValueOf(*st)
	for i := range v.NumField() {
		if v.Field(i).Int() == 0 {
			t.Errorf("%s never happened", v.Type().Field(i).Name)
		}
	}
}

// TestSearchSeesABrokenHand: what the shell leaves out before it answers gives two owners, and the search finds it.
func TestSearchSeesABrokenHand(t *testing.T) {
	const soon = 600 // histories; it needs 172
	histories := searchSetting(t, "HAVIP_SEARCH_HISTORIES", soon)
	for _, f := range []flaw{flawEndorses, flawGoesOn, flawSurvives, flawCountsTwice} {
		found := false
		for i := uint64(0); i < histories && !found; i++ {
			s := newSim(searchSeed+i, false)
			s.flaw = f
			s.play(s.profile.duration)
			if found = s.violation != ""; found {
				t.Logf("flaw %d, history %d: %s", f, i+1, s.violation)
			}
		}
		if !found {
			t.Errorf("flaw %d survives %d histories", f, histories)
		}
	}
}
