package wire

import (
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"havip-cluster/failover/lease"
	"havip-cluster/fsm"
)

var fixedRenewal = lease.Renewal{Session: lease.Session{Node: "n-holder", Number: 0x0102}, Round: 0x0304, Sent: -2, Length: 0x0506, Config: 0x0708, Boot: 0x090a}

func fixedAck() lease.Ack {
	r := fixedRenewal
	return lease.Ack{Session: r.Session, Round: r.Round, Sent: r.Sent, Length: r.Length, Config: r.Config, From: "n-voter", Boot: r.Boot}
}

// The bytes never change: programs in the kernel and other releases read them.
func TestFixedLayout(t *testing.T) {
	const body = "000000000000" + "0000000000000102" + "0000000000000304" + "fffffffffffffffe" + "0000000000000506" + "0000000000000708" + "000000000000090a"
	ack := fixedAck()
	for _, row := range []struct {
		from, to, want string
		m              Message
	}{
		{"n-holder", "n-voter", "0301" + body, Message{Renewal: &fixedRenewal}},
		{"n-voter", "n-holder", "0302" + body, Message{Ack: &ack}},
	} {
		b, is := encodeFixed(nil, row.from, row.to, row.m)
		if got := hex.EncodeToString(b); !is || got != row.want {
			t.Errorf("%t\n%s, want\n%s", is, got, row.want)
		}
		back, err := decodeFixed(b, row.from, row.to, new(scratch))
		if err != nil || !reflect.DeepEqual(back, row.m) {
			t.Errorf("%+v, %v", back, err)
		}
		for i := range b[:8] { // the rest may be anything
			bad := append([]byte(nil), b...)
			bad[i] ^= 0x80
			if m, err := decodeFixed(bad, row.from, row.to, new(scratch)); err == nil {
				t.Errorf("with byte %d changed it is %+v", i, m)
			}
		}
		for _, n := range []int{0, 1, fixedBytes - 1, fixedBytes + 1} {
			if _, err := decodeFixed(append(b, 0)[:n], row.from, row.to, new(scratch)); err == nil {
				t.Errorf("%d bytes are taken", n)
			}
		}
	}
}

// What speaks of another node than the two cannot be said without naming it.
func TestFixedNamesNobody(t *testing.T) {
	ack, hint := fixedAck(), []lease.Session{fixedRenewal.Session}
	for what, c := range map[string]struct {
		self, to string
		m        Message
	}{
		"another's renewal":                   {"n-voter", "n-holder", Message{Renewal: &fixedRenewal}},
		"another's acknowledgement":           {"n-other", "n-holder", Message{Ack: &ack}},
		"an acknowledgement to somebody else": {"n-voter", "n-other", Message{Ack: &ack}},
		"a hint":                              {"n-voter", "n-holder", Message{Hint: hint}},
	} {
		if _, is := encodeFixed(nil, c.self, c.to, c.m); is {
			t.Errorf("%s can be said", what)
		}
	}
}

// taggedPost takes messages tagged, or refuses them.
type taggedPost struct {
	refuses        bool
	tagged, sealed [][]byte
	answers        []bool
}

func (p *taggedPost) Send(_ fsm.Node, b []byte) error {
	p.sealed = append(p.sealed, append([]byte(nil), b...))
	return nil
}

func (p *taggedPost) SendTagged(_ fsm.Node, answer bool, b []byte) error {
	if p.refuses {
		return errors.New("it takes none")
	}
	p.tagged, p.answers = append(p.tagged, append([]byte(nil), b...)), append(p.answers, answer)
	return nil
}

// Renewals and acknowledgements go tagged where the other side takes them, and sealed where not; everything else
// is sealed. The receiver hears what was said, of whom the carrier proves.
func TestMailSendsTagged(t *testing.T) {
	for _, refuses := range []bool{false, true} {
		post := &taggedPost{refuses: refuses}
		holder, _ := mailOfNode(t, "n-holder", post)
		voter, heard := mailOfNode(t, "n-voter", post)
		ack, renewal := fixedAck(), fixedRenewal
		holder.Send("n-voter", Message{Renewal: &renewal})
		holder.Send("n-voter", Message{Status: &StatusMessage{Applied: 3}})
		if tagged, sealed := len(post.tagged), len(post.sealed); refuses && (tagged != 0 || sealed != 2) || !refuses && (tagged != 1 || sealed != 1 || post.answers[0]) {
			t.Fatalf("refuses %t: %d tagged, %d sealed", refuses, tagged, sealed)
		}
		for _, b := range append(post.tagged, post.sealed...) {
			voter.Receive("n-holder", b)
		}
		if len(*heard) != 2 || (*heard)[0].Renewal == nil || *(*heard)[0].Renewal != fixedRenewal || (*heard)[0].From != "n-holder" {
			t.Errorf("heard %+v", *heard)
		}
		voter.Send("n-holder", Message{Ack: &ack})
		if !refuses && (len(post.tagged) != 2 || !post.answers[1]) {
			t.Errorf("answers %v", post.answers)
		}
	}
}

// mailOfNode is the mail of a node in a cluster whose two members have keys, and what it hears.
func mailOfNode(t *testing.T, node string, post *taggedPost) (*Mail, *[]Message) {
	t.Helper()
	state := fsm.New()
	for _, id := range []string{"n-holder", "n-voter"} {
		state.Nodes[id] = fsm.Node{ID: id, Name: id, LeasePort: 1, Keys: make([]fsm.NodeKey, 1)}
	}
	heard := new([]Message)
	log := still{state: state, set: lease.NewVoterSet([]string{"n-voter", "n-holder"})}
	return NewMail(Config{Node: node, Log: log, Post: post}, func(m Message) {
		if m.Renewal != nil {
			r := *m.Renewal // its memory is used again
			m.Renewal = &r
		}
		*heard = append(*heard, m)
	}), heard
}

// FuzzDecodeFixed: no bytes panic, and what is taken is encoded as it was.
func FuzzDecodeFixed(f *testing.F) {
	b, _ := encodeFixed(nil, "n-holder", "n-voter", Message{Renewal: &fixedRenewal})
	f.Add(b)
	f.Add([]byte{VersionFixed, byte(KindAck)})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeFixed(b, "n-a", "n-b", new(scratch))
		if err != nil {
			return
		}
		again, is := encodeFixed(nil, "n-a", "n-b", m)
		if !is || !reflect.DeepEqual(again, b) {
			t.Errorf("%x is read as %+v, which is %x", b, m, again)
		}
	})
}
