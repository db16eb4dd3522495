package identity

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	formatVersion  = 2  // of identity.json; format 1 had no lease port
	gossipKeyBytes = 32 // AES-256 in memberlist
)

// Settings are what identity.json says. What the cluster has agreed since (another lease
// length, another role) is in the log and wins over it; these are the start values. The lease follows
// the log (SetLease).
type Settings struct {
	ClusterID string
	NodeID    string
	Name      string     // unique in the cluster, see CheckNodeName
	Advertise netip.Addr // where the other nodes reach this one
	Ports     Ports
	Role      Role
	Profile   Profile
	Lease     time.Duration // never 0, see TimersFor
	Created   time.Time     // of this data directory
	// Was is the address before Advertise, the zero value without one: a certificate for it counts until
	// the next one is made (Move).
	Was netip.Addr
}

// Check returns ErrInvalid for the first setting that is not acceptable.
func (s Settings) Check() error {
	_, roleErr := ParseRole(string(s.Role))
	_, leaseErr := TimersFor(s.Profile, s.Lease)
	if leaseErr == nil && s.Lease == 0 {
		leaseErr = fmt.Errorf("%w: the lease is missing", ErrInvalid)
	}
	var createdErr error
	if s.Created.IsZero() {
		createdErr = fmt.Errorf("%w: the time of creation is missing", ErrInvalid)
	}
	return firstError(CheckClusterID(s.ClusterID), CheckNodeID(s.NodeID), CheckNodeName(s.Name),
		CheckAdvertise(s.Advertise), s.Ports.Check(), roleErr, leaseErr, createdErr)
}

// Spec is the content of a data directory: the settings, and the text of every file
// beside identity.json.
type Spec struct {
	Settings
	CACert    []byte // PEM
	CAKey     []byte // PEM; empty on a node that may not let others in
	Cert      []byte // PEM
	Key       []byte // PEM
	GossipKey []byte // base64, see NewGossipKey
	Keys      []byte // keys.json; empty until the first renewal. Where it is there, the others are copies
}

// NewGossipKey returns a random key for gossip: 32 bytes in base64, one line.
func NewGossipKey() []byte {
	var key [gossipKeyBytes]byte
	rand.Read(key[:])
	return gossipText(key[:])
}

func gossipText(key []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(nil, key), '\n')
}

// NewCluster returns the content of the first node's data directory: a new cluster id,
// node id, CA, certificate and gossip key, created at now. From s it takes name,
// address, ports, profile and lease, where a lease of 0 is the profile's; the role is
// voter. It returns ErrInvalid for what s must not be.
func NewCluster(s Settings, now time.Time) (Spec, error) {
	timers, err := TimersFor(s.Profile, s.Lease)
	if err != nil {
		return Spec{}, err
	}
	s.NodeID, s.Role, s.Lease = NewNodeID(), RoleVoter, timers.Lease
	return Succeed(s, now)
}

// Succeed returns the content of the data directory with which node s goes on as the first
// of a new cluster, created at now: the cluster id, CA, certificate and gossip key are new,
// so that no node of the old cluster is let in or heard. It returns ErrInvalid for what s
// must not be.
func Succeed(s Settings, now time.Time) (Spec, error) {
	s.ClusterID, s.Created = NewClusterID(), now.UTC().Truncate(time.Second)
	if err := s.Check(); err != nil {
		return Spec{}, err
	}
	spec := Spec{Settings: s, GossipKey: NewGossipKey()}
	ca, err := NewCA(s.ClusterID, now)
	if err != nil {
		return Spec{}, err
	}
	spec.CACert = ca.CertPEM()
	if spec.CAKey, err = ca.KeyPEM(); err != nil {
		return Spec{}, err
	}
	csr, key, err := NewCSR()
	if err != nil {
		return Spec{}, err
	}
	spec.Key = key
	spec.Cert, err = SignCSR(ca, csr, s.NodeID, s.Name, s.Advertise, now)
	return spec, err
}

// Identity is a node's identity, loaded and verified. Its methods may be called from any
// goroutine; a copy must not be made.
type Identity struct {
	Settings
	Dir string // the data directory

	mu   sync.Mutex // held while keys is replaced, on the disk and here
	keys atomic.Pointer[keySet]

	made atomic.Pointer[datagramKeys]
}

// Timers returns the timers that the node starts with.
func (id *Identity) Timers() Timers {
	timers, err := TimersFor(id.Profile, id.Lease)
	if err != nil {
		panic("identity: Timers of an unverified identity: " + err.Error())
	}
	return timers
}

// Assemble verifies that the parts of a spec are well-formed and go together at now, and
// returns the identity that they make, without a data directory. Create calls it before it
// writes and Load after it has read, so nothing is written that could not be read.
func Assemble(s Spec, now time.Time) (*Identity, error) { return assemble(s, now, Grace) }

func assemble(s Spec, now time.Time, t tolerance) (*Identity, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	k, err := keySetOf(s, now, t)
	if err != nil {
		return nil, err
	}
	id := &Identity{Settings: s.Settings}
	id.keys.Store(k)
	return id, nil
}

func parseGossipKey(text []byte) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(key) != gossipKeyBytes {
		return nil, fmt.Errorf("%w: %s is not %d bytes in base64", ErrCorrupt, fileGossipKey, gossipKeyBytes)
	}
	return key, nil
}

// identityFile is identity.json. Fields are only ever added, with a new formatVersion.
type identityFile struct {
	Format     int        `json:"format"`
	Cluster    string     `json:"cluster"`
	Node       string     `json:"node"`
	Name       string     `json:"name"`
	Advertise  netip.Addr `json:"advertise"`
	APIPort    int        `json:"api_port"`
	RaftPort   int        `json:"raft_port"`
	GossipPort int        `json:"gossip_port"`
	LeasePort  int        `json:"lease_port,omitempty"` // since format 2
	Role       Role       `json:"role"`
	Profile    Profile    `json:"profile"`
	Lease      string     `json:"lease"` // as time.ParseDuration reads it
	Created    time.Time  `json:"created"`
}

// SetLease makes the node's next start begin with the timers of a lease. The rest of identity.json, also
// its format, stays as it is. It returns ErrInvalid for a lease that the profile does not allow.
func SetLease(dir string, lease time.Duration) error {
	path := filepath.Join(dir, fileIdentity)
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	s, err := decodeSettings(text)
	if err != nil {
		return err
	}
	if s.Lease == lease {
		return nil
	}
	if _, err := TimersFor(s.Profile, lease); err != nil {
		return err
	}
	var f identityFile
	if err := json.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, fileIdentity, err)
	}
	f.Lease = lease.String()
	if text, err = json.MarshalIndent(f, "", "  "); err != nil {
		return fmt.Errorf("identity: encode %s: %w", fileIdentity, err)
	}
	if err := ReplaceFile(path, modePublic, append(text, '\n')); err != nil {
		return fmt.Errorf("identity: write %s: %w", fileIdentity, err)
	}
	return nil
}

func encodeSettings(s Settings) ([]byte, error) {
	text, err := json.MarshalIndent(identityFile{
		Format: formatVersion, Cluster: s.ClusterID, Node: s.NodeID, Name: s.Name, Advertise: s.Advertise,
		APIPort: s.Ports.API, RaftPort: s.Ports.Raft, GossipPort: s.Ports.Gossip, LeasePort: s.Ports.Lease,
		Role: s.Role, Profile: s.Profile, Lease: s.Lease.String(), Created: s.Created,
	}, "", "  ")
	return append(text, '\n'), err
}

// decodeSettings reads identity.json, or returns ErrCorrupt or ErrFormat. The values still
// need Check.
func decodeSettings(text []byte) (Settings, error) {
	bad := func(why error) (Settings, error) {
		return Settings{}, fmt.Errorf("%w: %s: %w", ErrCorrupt, fileIdentity, why)
	}
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return bad(err)
	}
	if head.Format < 1 || head.Format > formatVersion {
		return Settings{}, fmt.Errorf("%w: %s has format %d, this version of havip-cluster reads formats up to %d; use the version that wrote it, or a newer one",
			ErrFormat, fileIdentity, head.Format, formatVersion)
	}
	var f identityFile
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&f); err != nil {
		return bad(err)
	}
	lease, err := time.ParseDuration(f.Lease)
	if err != nil {
		return bad(err)
	}
	return Settings{
		ClusterID: f.Cluster, NodeID: f.Node, Name: f.Name, Advertise: f.Advertise,
		Ports: Ports{API: f.APIPort, Raft: f.RaftPort, Gossip: f.GossipPort, Lease: f.LeasePort}.withLease(),
		Role:  f.Role, Profile: f.Profile, Lease: lease, Created: f.Created,
	}, nil
}
