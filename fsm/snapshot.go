package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Layout of a snapshot, integers big-endian:
//
//	0   8  magic "HAVIPSNP"
//	8   2  version of what follows
//	10  8  length of the body in bytes
//	18  n  body: JSON, every list sorted by its key, so equal states give equal bytes
//	18+n 32 SHA-256 of everything before
const (
	snapshotMagic   = "HAVIPSNP"
	snapshotVersion = CommandLevel // the newest; a state is written with its level
	snapshotHeader  = 18
	// MaxSnapshot bounds the body, in bytes.
	MaxSnapshot = 256 << 20
)

// Errors of ReadSnapshot. Each leaves the caller's state as it was.
var (
	// ErrSnapshotCorrupt is returned when the bytes are not a whole snapshot.
	ErrSnapshotCorrupt = errors.New("fsm: corrupt snapshot")
	// ErrSnapshotVersion is returned when a newer program wrote the snapshot.
	ErrSnapshotVersion = errors.New("fsm: snapshot of an unknown version: it was written by a newer program; upgrade this node")
)

// image is the body of a snapshot. Maps of the State become sorted lists.
type image struct {
	Index     uint64     `json:"index"`
	Cluster   Cluster    `json:"cluster"`
	Nodes     []Node     `json:"nodes"`
	Sessions  []Session  `json:"sessions"`
	ENIs      []ENI      `json:"enis"`
	Subnets   []Subnet   `json:"subnets"`
	HAVIPs    []HAVIP    `json:"havips"`
	Tokens    []Token    `json:"tokens"`
	Answered  []answered `json:"answered"`
	Events    []Event    `json:"events"`
	Failovers []Failover `json:"failovers"`

	Groups     []Group       `json:"groups,omitempty"`
	Quarantine []Quarantined `json:"quarantine,omitempty"`
	Decisions  []Decision    `json:"decisions,omitempty"`
	Revisions  []Revision    `json:"revisions,omitempty"`

	Credentials []Credential `json:"credentials,omitempty"`
	Audit       []Audited    `json:"audit,omitempty"`

	Webhooks []Webhook     `json:"webhooks,omitempty"`
	Checks   []Check       `json:"checks,omitempty"`
	Results  []nodeResults `json:"check_results,omitempty"`
}

// nodeResults is what one node has reported of its checks.
type nodeResults struct {
	Node    string        `json:"node"`
	Results []CheckResult `json:"results"`
}

// Snapshot gives the bytes of the state: the same for equal states, on every replica.
func (s *State) Snapshot() ([]byte, error) {
	body, err := json.Marshal(image{
		Index: s.Index, Cluster: s.Cluster,
		Nodes: sorted(s.Nodes), Sessions: sorted(s.Sessions), ENIs: sorted(s.ENIs),
		Subnets: sorted(s.Subnets), HAVIPs: sorted(s.HAVIPs), Tokens: sorted(s.Tokens),
		Answered: s.answered, Events: s.Events, Failovers: s.Failovers,
		Groups: sorted(s.Groups), Quarantine: sorted(s.Quarantine), Decisions: s.Decisions, Revisions: s.Revisions,
		Credentials: sorted(s.Credentials), Audit: s.Audit,
		Webhooks: sorted(s.Webhooks),
		Checks:   sorted(s.Checks), Results: s.resultLists(),
	})
	if err != nil {
		return nil, fmt.Errorf("fsm: encode snapshot: %w", err)
	}
	b := make([]byte, 0, snapshotHeader+len(body)+sha256.Size)
	b = append(b, snapshotMagic...)
	b = binary.BigEndian.AppendUint16(b, uint16(s.Level()))
	b = binary.BigEndian.AppendUint64(b, uint64(len(body)))
	b = append(b, body...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

// ReadSnapshot reads what Snapshot wrote, and nothing else: a cut, longer or changed
// one is ErrSnapshotCorrupt.
func ReadSnapshot(r io.Reader) (*State, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxSnapshot+snapshotHeader+sha256.Size+1))
	if err != nil {
		return nil, fmt.Errorf("fsm: read snapshot: %w", err)
	}
	if len(b) < snapshotHeader+sha256.Size || string(b[:8]) != snapshotMagic {
		return nil, fmt.Errorf("%w: no %s at its start", ErrSnapshotCorrupt, snapshotMagic)
	}
	if v := binary.BigEndian.Uint16(b[8:]); v == 0 || v > snapshotVersion {
		return nil, fmt.Errorf("%w (version %d)", ErrSnapshotVersion, v)
	}
	n := binary.BigEndian.Uint64(b[10:])
	if n > MaxSnapshot || uint64(len(b)) != snapshotHeader+n+sha256.Size {
		return nil, fmt.Errorf("%w: %d bytes, its header speaks of %d", ErrSnapshotCorrupt, len(b), n)
	}
	end := len(b) - sha256.Size
	if sum := sha256.Sum256(b[:end]); !bytes.Equal(sum[:], b[end:]) {
		return nil, fmt.Errorf("%w: checksum differs", ErrSnapshotCorrupt)
	}
	var im image
	if err := decodeJSON(b[snapshotHeader:end], &im); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshotCorrupt, err)
	}
	if im.Cluster.Level < 0 || im.Cluster.Level > int(binary.BigEndian.Uint16(b[8:])) {
		return nil, fmt.Errorf("%w: a state of level %d", ErrSnapshotCorrupt, im.Cluster.Level)
	}
	return im.state(), nil
}

func (im image) state() *State {
	s := New()
	s.Index, s.Cluster = im.Index, im.Cluster
	s.answered, s.Events, s.Failovers = im.Answered, im.Events, im.Failovers
	index(s.Nodes, im.Nodes, func(n Node) string { return n.ID })
	index(s.Sessions, im.Sessions, func(x Session) uint64 { return x.Number })
	index(s.ENIs, im.ENIs, func(e ENI) string { return e.ID })
	index(s.Subnets, im.Subnets, func(x Subnet) string { return x.Name })
	index(s.HAVIPs, im.HAVIPs, func(v HAVIP) string { return v.ID })
	index(s.Tokens, im.Tokens, func(t Token) string { return t.ID })
	index(s.Groups, im.Groups, func(g Group) string { return g.Name })
	index(s.Quarantine, im.Quarantine, func(q Quarantined) string { return q.key() })
	s.Decisions, s.Revisions, s.Audit = im.Decisions, im.Revisions, im.Audit
	index(s.Credentials, im.Credentials, func(c Credential) string { return c.Name })
	index(s.Webhooks, im.Webhooks, func(h Webhook) string { return h.Name })
	index(s.Checks, im.Checks, func(k Check) string { return k.Name })
	for _, r := range im.Results {
		s.Results[r.Node] = r.Results
	}
	s.indexChecks()
	s.indexOwn()
	s.inputs = s.Index
	return s
}

// resultLists are the results of the nodes in the order of their ids.
func (s *State) resultLists() []nodeResults {
	var out []nodeResults
	for _, node := range slices.Sorted(maps.Keys(s.Results)) {
		out = append(out, nodeResults{node, s.Results[node]})
	}
	return out
}

func index[K comparable, V any](into map[K]V, list []V, key func(V) K) {
	for _, v := range list {
		into[key(v)] = v
	}
}
