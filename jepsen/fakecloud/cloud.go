// Package fakecloud is a stand-in for Tencent Cloud on loopback: the HAVIP part of the VPC API (2017-03-12) with its error
// codes, its delays and its own check of every signature, the metadata service with credentials of a role, and a fabric
// that gives a HAVIP to the last permitted announcer. It shares no code with provider/tencent, so that a mistake there is
// not made here as well. Facts: Tencent Cloud API reference, VPC 2017-03-12, and docs/clouds.md.
package fakecloud

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Subnet is a subnet of the VPC.
type Subnet struct {
	ID   string       `json:"id"`
	CIDR netip.Prefix `json:"cidr"`
}

// ENI is a network interface.
type ENI struct {
	ID        string       `json:"id"`
	MAC       string       `json:"mac"`
	Subnet    string       `json:"subnet"`
	Instance  string       `json:"instance"` // "" = attached to none
	Primary   bool         `json:"primary"`
	Addresses []netip.Addr `json:"addresses"`
}

// Config is what a Cloud begins with. Absent values have defaults.
type Config struct {
	Region  string   `json:"region"`
	Zone    string   `json:"zone"`
	VPC     string   `json:"vpc"`
	Subnets []Subnet `json:"subnets"`
	ENIs    []ENI    `json:"enis"`
	EIPs    []string `json:"eips"` // that nothing has yet
	// SecretID and SecretKey are those of a user; the role's are made anew for each question.
	SecretID  string `json:"secret_id"`
	SecretKey string `json:"secret_key"`
	Role      string `json:"role"`
	RoleLife  int    `json:"role_life_seconds"`
	// Quota is the number of HAVIPs of the VPC.
	Quota int `json:"quota"`
	// TaskMS is how long what is asynchronous takes, ClaimMS how long the fabric takes no second claim of an ENI.
	TaskMS  int `json:"task_ms"`
	ClaimMS int `json:"claim_ms"`
	// MACUpper prints MACs in upper case, as the vendor's samples do.
	MACUpper bool `json:"mac_upper"`
	// OldModel leaves the newer fields out, as the international site does.
	OldModel bool `json:"old_model"`
}

// Fault is what the cloud does wrong from now on.
type Fault struct {
	Down      bool   `json:"down"` // the connection is cut
	SlowMS    int    `json:"slow_ms"`
	Throttle  bool   `json:"throttle"`  // RequestLimitExceeded for everything
	Signature bool   `json:"signature"` // every signature is wrong
	Internal  bool   `json:"internal"`  // InternalError
	LoseOnce  string `json:"lose_once"` // the next call of this action is done, and its answer is lost
	Garbage   bool   `json:"garbage"`   // an answer that is no JSON
	Endless   bool   `json:"endless"`   // an answer without end
	// Refuse gives the code with which an action is refused, by the action's name.
	Refuse map[string]string `json:"refuse"`
}

// Association is a member of a range.
type Association struct {
	InstanceId   string
	HaVipId      string
	InstanceType string
}

// HAVIP is one, in the cloud's own words.
type HAVIP struct {
	HaVipId, HaVipName, Vip, VpcId, SubnetId         string
	NetworkInterfaceId, InstanceId, AddressIp, State string
	CreatedTime, Business                            string
	HaVipAssociationSet                              []Association
	CheckAssociate                                   bool
	FlushedTime                                      string
	busy                                             bool // a task is at work on it
}

// task is what is done later than it is answered.
type task struct {
	due    time.Time
	do     func() error
	status string
	output string
}

// Call is one request that was answered.
type Call struct {
	Action string
	Code   string // "" = done
	Token  string // ClientToken
	At     time.Time
}

// Cloud is the fake. Its methods may be called at the same time.
type Cloud struct {
	mu     sync.Mutex
	cfg    Config
	havips map[string]*HAVIP
	tasks  map[string]*task
	tokens map[string]made      // of CreateHaVip
	issued map[string]issued    // credentials of the role, by id
	eips   map[string]string    // id of the HAVIP, "" = free
	claims map[string]time.Time // last claim of an ENI
	fault  Fault
	calls  []Call
	now    func() time.Time
	zero   int // ids that were given out
}

// made is what a ClientToken has made.
type made struct{ body, id string }

type issued struct {
	key, token string
	ends       time.Time
}

// callsMax bounds what is remembered of requests.
const callsMax = 10_000

// New makes a cloud.
func New(c Config) *Cloud {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&c.Region, "ap-test")
	def(&c.Zone, c.Region+"-1")
	def(&c.VPC, "vpc-fake0001")
	def(&c.SecretID, "AKIDfake")
	def(&c.SecretKey, "fake-secret-key")
	def(&c.Role, "havip-role")
	if c.Quota == 0 {
		c.Quota = 10
	}
	if c.RoleLife == 0 {
		c.RoleLife = 3600
	}
	f := &Cloud{
		cfg: c, havips: map[string]*HAVIP{}, tasks: map[string]*task{}, tokens: map[string]made{}, issued: map[string]issued{}, eips: map[string]string{},
		claims: map[string]time.Time{}, now: time.Now,
	}
	for _, e := range c.EIPs {
		f.eips[e] = ""
	}
	return f
}

// SetFault changes what goes wrong.
func (c *Cloud) SetFault(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// SetClock replaces the time, for tests.
func (c *Cloud) SetClock(now func() time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// Calls are the requests so far.
func (c *Cloud) Calls() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// HAVIPs are those there are, by address.
func (c *Cloud) HAVIPs() []HAVIP {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	out := []HAVIP{}
	for _, v := range c.sorted() {
		h := *v
		h.HaVipAssociationSet = slices.Clone(v.HaVipAssociationSet)
		out = append(out, h)
	}
	return out
}

// Edit changes a HAVIP behind everybody's back, as a person in the console does; nil from change deletes it.
func (c *Cloud) Edit(address string, change func(h HAVIP) *HAVIP) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, v := range c.havips {
		if v.Vip == address {
			if to := change(*v); to == nil {
				delete(c.havips, id)
			} else {
				c.havips[id] = to
			}
			return nil
		}
	}
	return fmt.Errorf("fakecloud: there is no HAVIP %s", address)
}

// AddENI attaches one more interface, or replaces that of the same id.
func (c *Cloud) AddENI(e ENI) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cfg.ENIs = append(slices.DeleteFunc(c.cfg.ENIs, func(o ENI) bool { return o.ID == e.ID }), e)
}

func (c *Cloud) sorted() []*HAVIP {
	out := make([]*HAVIP, 0, len(c.havips))
	for _, v := range c.havips {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b *HAVIP) int { return strings.Compare(a.HaVipId, b.HaVipId) })
	return out
}

// settle does what is due. Call with mu held.
func (c *Cloud) settle() {
	now := c.now()
	for _, t := range c.tasks {
		if t.status == "RUNNING" && !now.Before(t.due) {
			t.status = "SUCCESS"
			if err := t.do(); err != nil {
				t.status, t.output = "FAILED", err.Error()
			}
		}
	}
}

// begin starts a task. Call with mu held.
func (c *Cloud) begin(request string, do func() error) {
	c.tasks[request] = &task{due: c.now().Add(time.Duration(c.cfg.TaskMS) * time.Millisecond), do: do, status: "RUNNING"}
}

func (c *Cloud) stamp() string { return c.now().UTC().Format(time.DateTime) }

// newID makes an id such as havip-0000000a.
func (c *Cloud) newID(kind string) string {
	c.zero++
	return fmt.Sprintf("%s-%08x", kind, c.zero)
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return hex.EncodeToString(b)
}

func (c *Cloud) subnet(id string) (Subnet, bool) {
	i := slices.IndexFunc(c.cfg.Subnets, func(s Subnet) bool { return s.ID == id })
	if i < 0 {
		return Subnet{}, false
	}
	return c.cfg.Subnets[i], true
}

// Secrets are the secret keys and tokens that it has given out, in order.
func (c *Cloud) Secrets() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := []string{c.cfg.SecretKey}
	for _, i := range c.issued {
		out = append(out, i.key, i.token)
	}
	slices.Sort(out)
	return out
}
