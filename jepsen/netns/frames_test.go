package netns

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"testing"

	"havip-cluster/testbed"
)

var (
	macA, macB = net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	ipA, ipB   = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
)

func TestARPFrame(t *testing.T) {
	f := arpFrame{to: macB, from: macA, op: opRequest, senderMAC: macA, targetMAC: macB, senderIP: ipA, targetIP: ipB}
	b := f.append(nil)
	if got, want := hex.EncodeToString(b), "020000000002020000000001"+"0806"+"0001080006040001"+"020000000001c0000201"+"020000000002c0000202"; got != want {
		t.Errorf("bytes\n%s, want\n%s", got, want)
	}
	got, ok := parseARP(b)
	if !ok || !bytes.Equal(got.append(nil), b) {
		t.Errorf("round trip gives %+v, %v", got, ok)
	}
	for n := range b {
		if _, ok := parseARP(b[:n]); ok {
			t.Errorf("%d bytes accepted", n)
		}
	}
}

func TestUDPFrame(t *testing.T) {
	f := udpFrame{
		to: macB, from: macA, src: netip.AddrPortFrom(ipA, 1), dst: netip.AddrPortFrom(ipB, 7007), payload: testbed.AppendQuestion(nil, 0x0102),
	}
	b := f.append(nil)
	want := "020000000002020000000001" + "0800" + "4500002800004000401100" // the checksum's sum is checked below
	if got := hex.EncodeToString(b); got[:len(want)-2] != want[:len(want)-2] {
		t.Errorf("bytes\n%s, want\n%s", got, want)
	}
	if checksum(b[etherBytes:etherBytes+ipBytes]) != 0 {
		t.Error("the header with its checksum does not sum to zero")
	}
	got, ok := parseUDP(b)
	if !ok || !bytes.Equal(got.append(nil), b) {
		t.Errorf("round trip gives %+v, %v", got, ok)
	}
	if number, name, ok := testbed.ParseQuestion(got.payload); !ok || number != 0x0102 || name != "" {
		t.Errorf("question %d %q %v", number, name, ok)
	}
	if _, ok := parseUDP(append(b[:len(b):len(b)], 0, 0, 0)); !ok {
		t.Error("a padded frame is refused")
	}
	for n := range b {
		if _, ok := parseUDP(b[:n]); ok {
			t.Errorf("%d bytes accepted", n)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(arpFrame{to: macB, from: macA, op: opReply, senderMAC: macA, targetMAC: macB, senderIP: ipA, targetIP: ipB}.append(nil))
	f.Add(udpFrame{to: macB, from: macA, src: netip.AddrPortFrom(ipA, 1), dst: netip.AddrPortFrom(ipB, 2)}.append(nil))
	f.Fuzz(func(_ *testing.T, b []byte) {
		parseARP(b)
		if u, ok := parseUDP(b); ok {
			testbed.ParseQuestion(u.payload)
		}
	})
}
