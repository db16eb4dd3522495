package reach

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Letters for what is told to other nodes: there are few bytes for it. Never changed, only added to.
var (
	doorLetters = map[Door]string{API: "a", Raft: "r", GossipTCP: "g", GossipUDP: "u", Lease: "l"}
	whyLetters  = map[Why]string{TimedOut: "t", Refused: "r", Unreachable: "h", NoAnswer: "n", Failed: "f"}
)

// Pack writes as many failures as fit into a number of bytes, commas included, and says how many do not.
func Pack(list []Failure, bytes int) (text string, more int) {
	var b strings.Builder
	for i, f := range list {
		word := fmt.Sprintf("%s.%s%s.%s", f.Node, doorLetters[f.Door], whyLetters[f.Why], strconv.FormatInt(f.Since.Unix(), 36))
		if b.Len()+1+len(word) > bytes {
			return b.String(), len(list) - i
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(word)
	}
	return b.String(), 0
}

// Unpack reads what Pack wrote. What a later version added is left out.
func Unpack(text string) (out []Failure) {
	for word := range strings.SplitSeq(text, ",") {
		parts := strings.Split(word, ".")
		if len(parts) != 3 || len(parts[1]) != 2 || parts[0] == "" {
			continue
		}
		at, err := strconv.ParseInt(parts[2], 36, 64)
		f := Failure{Probe: Probe{Node: parts[0]}, Since: time.Unix(at, 0)}
		for d, letter := range doorLetters {
			if letter == parts[1][:1] {
				f.Door = d
			}
		}
		for w, letter := range whyLetters {
			if letter == parts[1][1:] {
				f.Why = w
			}
		}
		if err == nil && f.Door != "" && f.Why != "" && !slices.ContainsFunc(out, func(o Failure) bool { return o.Probe == f.Probe }) {
			out = append(out, f)
		}
	}
	return out
}
