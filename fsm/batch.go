package fsm

import (
	"net/netip"
	"slices"
)

// A batch keeps what one command that makes many changes asks again and again. Its methods
// do nothing on nil.
type batch struct {
	users  map[string]map[netip.Addr]string // by VPC, see addressUsers
	byName map[string][]string              // ids, sorted
	eips   map[netip.Addr]string            // id of the HAVIP that has or had it
	ids    int                              // given out
}

func (s *State) beginBatch() {
	s.batch = &batch{users: map[string]map[netip.Addr]string{}, byName: map[string][]string{}, eips: map[netip.Addr]string{}}
	for _, v := range sorted(s.HAVIPs) {
		if v.EIP.IsValid() {
			s.batch.eips[v.EIP] = v.ID
		}
		s.batch.byName[v.Name] = append(s.batch.byName[v.Name], v.ID)
	}
}

func (b *batch) usersOf(vpc string) (map[netip.Addr]string, bool) {
	if b == nil {
		return nil, false
	}
	users, ok := b.users[vpc]
	return users, ok
}

func (b *batch) remember(vpc string, users map[netip.Addr]string) {
	if b != nil {
		b.users[vpc] = users
	}
}

func (b *batch) created(v HAVIP) {
	if b == nil {
		return
	}
	if users, ok := b.users[v.VPC]; ok {
		users[v.IP] = "HAVIP " + v.Name + " (" + v.ID + ")"
	}
	b.byName[v.Name] = append(b.byName[v.Name], v.ID)
	slices.Sort(b.byName[v.Name])
}

func (b *batch) deleted(v HAVIP) {
	if b == nil {
		return
	}
	if users, ok := b.users[v.VPC]; ok {
		delete(users, v.IP)
	}
	b.dropName(v)
}

func (b *batch) dropName(v HAVIP) {
	if b == nil {
		return
	}
	b.byName[v.Name] = slices.DeleteFunc(b.byName[v.Name], func(id string) bool { return id == v.ID })
}

// renamed follows a HAVIP to its new name.
func (b *batch) renamed(before, after HAVIP) {
	if b != nil && before.Name != after.Name {
		b.dropName(before)
		b.byName[after.Name] = append(b.byName[after.Name], after.ID)
		slices.Sort(b.byName[after.Name])
	}
}

// next numbers the ids of one command; the first is 0, as without a batch.
func (b *batch) next() int {
	if b == nil {
		return 0
	}
	b.ids++
	return b.ids - 1
}

// findHAVIP is HAVIPNamed with the batch's index of names.
func (s *State) findHAVIP(name string) (HAVIP, *Refusal) {
	if s.batch == nil {
		return s.HAVIPNamed(name)
	}
	if v, ok := s.HAVIPs[name]; ok {
		return v, nil
	}
	found := make([]HAVIP, 0, 1)
	for _, id := range s.batch.byName[name] {
		found = append(found, s.HAVIPs[id])
	}
	return theOne(name, found)
}
