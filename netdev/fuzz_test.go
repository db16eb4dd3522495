package netdev

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/mdlayher/ndp"
)

// FuzzNeighborAdvertisement: the frame that announces an address says exactly that to
// another implementation's parser, or there is none.
func FuzzNeighborAdvertisement(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("2001:db8::1").AsSlice(), true)
	f.Add([]byte{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("::ffff:192.0.2.1").AsSlice(), false)
	f.Add([]byte{2, 0, 0, 0, 0, 1}, []byte{192, 0, 2, 1}, false)
	f.Add([]byte{1, 2, 3}, netip.IPv6Unspecified().AsSlice(), false)
	f.Add([]byte{255, 255, 255, 255, 255, 255}, netip.MustParseAddr("ff02::1").AsSlice(), true)
	f.Fuzz(func(t *testing.T, mac, address []byte, router bool) {
		ip, _ := netip.AddrFromSlice(address)
		frame, err := neighborAdvertisement(net.HardwareAddr(mac), ip, router)
		if err != nil {
			return
		}
		if len(frame) < etherLen+ipv6Len || int(binary.BigEndian.Uint16(frame[etherLen+4:])) != len(frame)-etherLen-ipv6Len {
			t.Fatalf("length of %x", frame)
		}
		message, err := ndp.ParseMessage(frame[etherLen+ipv6Len:])
		if err != nil {
			t.Fatal(err)
		}
		na, ok := message.(*ndp.NeighborAdvertisement)
		if !ok || na.TargetAddress != ip || !na.Override || na.Solicited || na.Router != router || len(na.Options) != 1 {
			t.Fatalf("%+v", message)
		}
		option, ok := na.Options[0].(*ndp.LinkLayerAddress)
		if !ok || !bytes.Equal(option.Addr, mac) {
			t.Errorf("%+v", na.Options[0])
		}
	})
}
