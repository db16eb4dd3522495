package fsm

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// newID derives an id from the cluster and the log index: the same on every replica.
func (s *State) newID(prefix string) string {
	from := s.Cluster.ID + "/" + strconv.FormatUint(s.Index, 10)
	if n := s.batch.next(); n > 0 {
		from += "/" + strconv.Itoa(n)
	}
	return idFrom(prefix, from)
}

func idFrom(prefix, text string) string {
	sum := sha256.Sum256([]byte(text))
	return prefix + hex.EncodeToString(sum[:4])
}

// idTries bounds the search for an id that nobody has: with 10,000 taken one try in 400,000 fails.
const idTries = 100

// otherID goes on from an id that is taken to one that is not, or to the last that it tried: the same
// on every replica. Programs below level 4 refuse instead.
func (s *State) otherID(prefix, id string, taken func(string) bool) string {
	for n := 0; n < idTries && taken(id); n++ {
		id = idFrom(prefix, s.Cluster.ID+"/"+id)
	}
	return id
}
