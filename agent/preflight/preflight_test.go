package preflight

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"havip-cluster/membership/identity"
	"havip-cluster/netdev/fence"
)

const inside = "HAVIP_TEST_INSIDE"

// TestMain plays a scene in the child that a test started for it, and prints the findings as JSON.
func TestMain(m *testing.M) {
	if fence.ProofChild() {
		return
	}
	if name := os.Getenv(inside); name != "" {
		found, err := scenes[name]()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = json.NewEncoder(os.Stdout).Encode(found)
		return
	}
	os.Exit(m.Run())
}

var (
	here    = netip.MustParseAddr("10.99.0.1")
	options = Options{Dir: "/nonexistent/data", Advertise: here, Ports: identity.DefaultPorts}
)

// scenes are hosts with something in the way.
var scenes = map[string]func() ([]Finding, error){
	"bare": func() ([]Finding, error) { return Run(context.Background(), options), nil },
	"ready": func() ([]Finding, error) {
		err := pair(1500)
		return Run(context.Background(), options), err
	},
	"in the way": func() ([]Finding, error) {
		if err := pair(1400); err != nil {
			return nil, err
		}
		l, err := net.Listen("tcp", "10.99.0.1:7401")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/all/arp_ignore", []byte("8"), 0); err != nil {
			return nil, err
		}
		stop := make(chan struct{})
		defer close(stop)
		go speakVRRP(stop)
		o := options
		o.Peer = "10.99.0.1" // itself: 7401 answers, the others refuse
		return Run(context.Background(), o), nil
	},
	"nobody": func() ([]Finding, error) { return rights(context.Background(), options), nil },
}

// pair makes a veth pair, this end with the address.
func pair(mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "near", mtu
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far"}); err != nil {
		return err
	}
	for _, name := range []string{"lo", "near", "far"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
		if name == "near" {
			if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: here.AsSlice(), Mask: net.CIDRMask(24, 32)}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// speakVRRP sends advertisements of router 51 over the far end.
func speakVRRP(stop <-chan struct{}) {
	far, err := net.InterfaceByName("far")
	if err != nil {
		return
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Ifindex: far.Index, Protocol: bigEndian(unix.ETH_P_IP), Halen: 6, Addr: [8]byte{0x01, 0, 0x5e, 0, 0, 0x12}}
	for {
		select {
		case <-stop:
			return
		case <-time.After(100 * time.Millisecond):
			_ = unix.Sendto(fd, advertisement, 0, to)
		}
	}
}

var advertisement = append([]byte{0x45, 0, 0, 28, 0, 0, 0, 0, 255, 112, 0, 0, 10, 99, 0, 7, 224, 0, 0, 18}, 0x21, 51, 100, 1, 0, 1, 0, 0)

func play(t *testing.T, scene string, attr *syscall.SysProcAttr) []Finding {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), inside+"="+scene)
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v (it needs root)", scene, err)
	}
	var found []Finding
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return found
}

func has(found []Finding, level Level, what, text string) bool {
	for _, f := range found {
		if f.Level == level && f.What == what && strings.Contains(f.Text, text) && (level == OK) == (f.Do == "") {
			return true
		}
	}
	return false
}

// TestRun: on the real kernel, each host in a network namespace of its own.
func TestRun(t *testing.T) {
	for scene, want := range map[string][]Finding{
		"bare":  {{OK, "kernel", "Linux", ""}, {OK, "rights", "all", ""}, {OK, "fence", "outlives", ""}, {Fault, "address", "10.99.0.1 is on no interface", ""}},
		"ready": {{OK, "address", "10.99.0.1/24 is on near, MTU 1500", ""}, {OK, "port", "7403/udp", ""}, {OK, "sysctl", "arp_ignore of near is 0; the agent sets it to 1", ""}, {OK, "speaker", "no VRRP", ""}, {OK, "priority", "nice -15", ""}},
		"in the way": {
			{Warning, "address", "MTU is 1400", ""}, {Fault, "port", "7401/tcp for Raft", ""}, {Fault, "sysctl", "all.arp_ignore is 8", ""},
			{Warning, "speaker", "10.99.0.7 speaks VRRP 2, router id 51 on near", ""}, {OK, "peer", "answers at 7401/tcp", ""}, {Warning, "peer", "refuses 7400/tcp", ""},
		},
	} {
		t.Run(scene, func(t *testing.T) {
			t.Parallel()
			found := play(t, scene, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
			faults := false
			for _, w := range want {
				faults = faults || w.Level == Fault
				if !has(found, w.Level, w.What, w.Text) {
					t.Errorf("no %s of %s that says %q, with a way out unless it is ok, in %+v", w.Level, w.What, w.Text, found)
				}
			}
			// What the host permits differs, how busy its disk is too, and each answer has its way out.
			for what, text := range map[string]string{"real time": "", "memory": "", "disk": "flushes"} {
				if !has(found, OK, what, text) && !has(found, Warning, what, text) {
					t.Errorf("nothing of %s in %+v", what, found)
				}
			}
			if err := Verdict(found); (err != nil) != faults {
				t.Errorf("verdict %v of %+v", err, found)
			}
		})
	}
}

// TestRightsAreNamed: who has no capability hears its name.
func TestRightsAreNamed(t *testing.T) {
	folder, err := os.MkdirTemp("", "preflight")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(folder, "child") // where nobody may run it
	for _, err := range []error{os.Chmod(folder, 0o755), os.WriteFile(program, self, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), inside+"=nobody")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"CAP_NET_ADMIN is missing", "CAP_NET_RAW is missing", "without CAP_SYS_ADMIN"} {
		if !strings.Contains(string(out), name) {
			t.Errorf("%q is not in %s", name, out)
		}
	}
}

func TestVRRPSpeaker(t *testing.T) {
	for _, row := range []struct {
		packet []byte
		want   string
	}{
		{advertisement, "10.99.0.7 speaks VRRP 2, router id 51"},
		{advertisement[:20], "10.99.0.7 speaks VRRP"},
		{advertisement[:19], ""},
		{nil, ""},
		{append([]byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17}, advertisement[10:]...), ""},
		{append([]byte{0x41}, advertisement[1:]...), "10.99.0.7 speaks VRRP"},
		{append([]byte{0x4f}, advertisement[1:]...), "10.99.0.7 speaks VRRP"},
	} {
		if got := vrrpSpeaker(row.packet); got != row.want {
			t.Errorf("% x: %q, want %q", row.packet, got, row.want)
		}
	}
}

func FuzzVRRPSpeaker(f *testing.F) {
	f.Add(advertisement)
	f.Fuzz(func(_ *testing.T, packet []byte) { vrrpSpeaker(packet) })
}

func TestSlowestSync(t *testing.T) {
	dir := t.TempDir()
	if worst, err := SlowestSync(dir, 2); err != nil || worst <= 0 {
		t.Errorf("%v, %v", worst, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
	if _, err := SlowestSync(dir+"/no", 2); err == nil {
		t.Error("a folder that is not there was flushed")
	}
}
