package datagram

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
	"time"
)

// fixed is a message that may go tagged.
func fixed(what byte) []byte {
	return append([]byte{FixedMark}, bytes.Repeat([]byte{what}, FixedBytes-1)...)
}

// ask repeats a tagged message until it is heard.
func (c *company) ask(from, to string, answer bool, message []byte) {
	c.t.Helper()
	c.eventually(to+" hears a tagged message of "+from, func() bool {
		_ = c.nodes[from].sock.SendTagged(c.state.Load().Nodes[to], answer, message)
		time.Sleep(2 * time.Millisecond)
		return c.nodes[to].count(from, string(message)) > 0
	})
}

// begun waits until the one knows that its channel to the other has begun.
func (c *company) begun(from, to string) {
	c.t.Helper()
	c.eventually(from+" knows that its channel has begun", func() bool {
		p := c.nodes[from].sock.table.now().peers[shortID(to)]
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.send.begun
	})
}

// A node that offers it is sent tagged messages, and answers in the channel of who asks; one that does not is sent
// none. After a start of either everything begins again, and nothing of before counts.
func TestTagged(t *testing.T) {
	c := newCompany(t, "n-a", "n-b")
	a, b := c.nodes["n-a"], c.nodes["n-b"]
	c.say("n-a", "n-b", "hello")
	c.say("n-b", "n-a", "hello")
	c.begun("n-a", "n-b")
	c.begun("n-b", "n-a")
	to := c.state.Load().Nodes
	if err := a.sock.SendTagged(to["n-b"], false, fixed(1)); !errors.Is(err, ErrNotOffered) {
		t.Fatalf("without an offer: %v", err)
	}
	if _, is := b.sock.Tagged("n-a"); is {
		t.Error("a channel with tagged frames, of which none has come")
	}
	b.sock.Offer()
	c.ask("n-a", "n-b", false, fixed(1))
	if err := b.sock.SendTagged(to["n-a"], false, fixed(2)); !errors.Is(err, ErrNotOffered) {
		t.Errorf("to who has not offered it: %v", err)
	}
	c.ask("n-b", "n-a", true, fixed(2)) // an answer needs no offer
	channel, is := b.sock.Tagged("n-a")
	if !is || channel.Number == 0 || channel.Invitation == 0 || channel.Request == channel.Answer || channel.Peer != loopback {
		t.Errorf("the channel is %+v, %t", channel, is)
	}
	answered, is := a.sock.Answered("n-b")
	if !is || answered.Number != channel.Number || answered.Invitation != channel.Invitation || answered.Answer != channel.Answer || answered.Peer != loopback {
		t.Errorf("answers come in the channel %+v, %t; want that of the questions, %+v", answered, is, channel)
	}
	if _, is := b.sock.Answered("n-a"); is {
		t.Error("a channel for answers to what was never asked")
	}
	if _, is := a.sock.Answered("n-c"); is {
		t.Error("a channel for answers of a node that nobody knows")
	}
	for _, wrong := range [][]byte{nil, fixed(1)[:FixedBytes-1], append(fixed(1), 0), make([]byte, FixedBytes)} {
		if err := a.sock.SendTagged(to["n-b"], false, wrong); err == nil || errors.Is(err, ErrNotOffered) {
			t.Errorf("%d bytes: %v", len(wrong), err)
		}
	}
	b.end()
	b.start()
	c.say("n-a", "n-b", "after the start")
	if err := b.sock.SendTagged(to["n-a"], true, fixed(3)); !errors.Is(err, ErrNotOffered) {
		t.Errorf("an answer to what the process before was asked: %v", err)
	}
	b.sock.Offer()
	c.ask("n-a", "n-b", false, fixed(4))
	if after, _ := b.sock.Tagged("n-a"); after.Number == channel.Number || after.Request == channel.Request {
		t.Error("the channel before is still in use")
	}
}

// No tagged frame begins a channel. So while the other has not said that it knows the channel, what is to be said goes
// sealed: else a lost first frame would cost all renewals that follow it.
func TestALostFirstFrame(t *testing.T) {
	c := newCompany(t, "n-a", "n-b")
	a, b := c.nodes["n-a"], c.nodes["n-b"]
	c.say("n-a", "n-b", "hello")
	c.say("n-b", "n-a", "hello")
	b.sock.Offer()
	c.ask("n-a", "n-b", false, fixed(1))
	p, q := a.sock.table.now().peers[shortID("n-b")], b.sock.table.now().peers[shortID("n-a")]
	q.mu.Lock()
	next := q.recv.next
	q.mu.Unlock()
	p.mu.Lock()
	p.send.question, p.send.asking, p.send.since = 1, p.send.pair, time.Now()
	fresh, why := p.send.welcome(time.Now(), &header{number: 1, invite: next}, p.send.pair)
	p.mu.Unlock()
	if !fresh || why != "" {
		t.Fatalf("no new channel: %t, %s", fresh, why)
	}
	to := c.state.Load().Nodes["n-b"]
	tagged := func() bool { return a.sock.SendTagged(to, false, fixed(2)) == nil }
	c.eventually("n-b hears n-a in the new channel", func() bool {
		if !tagged() {
			_ = a.sock.Send(to, []byte("sealed"))
		}
		time.Sleep(2 * time.Millisecond)
		return b.count("n-a", "sealed")+b.count("n-a", string(fixed(2))) > 0
	})
	c.eventually("it goes tagged again", tagged)
}

// No message goes the other kind's way: a sealed one never begins as a fixed one does, and the offer, which a
// program before it drops as no message, is no message here either.
func TestKindsStayApart(t *testing.T) {
	c := newCompany(t, "n-a", "n-b")
	c.say("n-a", "n-b", "hello")
	a, b := c.nodes["n-a"].sock, c.nodes["n-b"]
	_ = a.Send(c.state.Load().Nodes["n-b"], fixed(1))
	_ = a.Send(c.state.Load().Nodes["n-b"], offer)
	c.say("n-a", "n-b", "after it")
	if n := b.count("n-a", string(fixed(1))) + b.count("n-a", string(offer)); n != 0 {
		t.Errorf("%d of them were heard", n)
	}
	if n := b.sock.Dropped()[string(causeVersion)]; n != 1 {
		t.Errorf("dropped %v", b.sock.Dropped())
	}
}

// Whatever is changed in a tagged frame, it is not taken, nor one of the other direction, or by the other key.
func TestMangledTaggedFrames(t *testing.T) {
	ab, ba := pairOf(t)
	aead, err := ab.sealer(true, 5, 7)
	if err != nil {
		t.Fatal(err)
	}
	a, b := &peer{short: 2, send: sending{pair: ab, aead: aead, channel: 5, invite: 7, begun: true}}, &peer{short: 1, recv: receiving{pair: ba, aead: aead, channel: 5, invite: 7}}
	a.recv.offered = true
	take := func(p *peer, x *pair, frame []byte) cause {
		var h header
		if why := h.parse(frame); why != "" {
			return why
		}
		if h.fromKey != shortKey(x.other.Certificate) || h.toKey != ownKey(x.own) || h.from != p.short {
			return causeKey // the socket looks these up
		}
		message, why := p.open(&h, x, frame)
		if why == "" && !bytes.Equal(message, fixed(1)) {
			t.Errorf("heard %x", message)
		}
		return why
	}
	request, ok := a.tagFrame(nil, 1, false, fixed(1))
	if !ok || len(request) != taggedBytes {
		t.Fatalf("%t, %d bytes", ok, len(request))
	}
	for i := range request {
		bad := bytes.Clone(request)
		bad[i] ^= 1 << (i % 8)
		if take(b, ba, bad) == "" && !bytes.Equal(bad[16:24], request[16:24]) { // the receiver is the socket's to look at
			t.Errorf("taken with byte %d changed", i)
		}
	}
	if why := take(b, ba, bytes.Clone(request)); why != "" {
		t.Fatalf("not taken: %s", why)
	}
	answer, ok := b.tagFrame(nil, 2, true, fixed(1))
	if !ok {
		t.Fatal("no answer")
	}
	if why := take(a, ab, bytes.Clone(answer)); why != "" {
		t.Errorf("the answer: %s", why)
	}
	for what, frame := range map[string][]byte{"a request as an answer": request, "an answer as a request": answer} {
		bad := bytes.Clone(frame)
		bad[2] ^= 1
		if take(b, ba, bad) == "" || take(a, ab, bad) == "" {
			t.Errorf("%s is taken", what)
		}
	}
}

// The bytes of a tagged frame are a format: the program in the kernel reads and answers them (netdev/acceptor).
func TestTaggedLayout(t *testing.T) {
	h := header{protectTagged, typeAnswer, 0x0102030405060708, 0x1112131415161718, 0x21222324, 0x31323334, 0x4142434445464748, 0x5152535455565758, 9}
	b := make([]byte, headerBytes)
	h.put(b)
	b = sipKey{0x0706050403020100, 0x0f0e0d0c0b0a0908}.tag(append(b, fixed(0xee)...))
	const want = "01020100212223240102030405060708" + "11121314151617183132333400000000" + "41424344454647485152535455565758" + "0000000000000009" +
		"03eeeeeeeeeeeeee" + "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee" + "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee" + "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee" + "f58f85533616b386"
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
}
