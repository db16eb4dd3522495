package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// systemd is a service manager for tests on a bus of its own: it knows the state of units.
type systemd struct {
	mu     sync.Mutex
	states map[string]string // by object path, behind that of the units
	hangs  chan struct{}     // not nil: nobody is answered until it is closed
}

// Get is org.freedesktop.DBus.Properties.Get of one unit.
func (s *systemd) get(path string) func(iface, property string) (dbus.Variant, *dbus.Error) {
	return func(iface, property string) (dbus.Variant, *dbus.Error) {
		s.mu.Lock()
		state, hangs := s.states[path], s.hangs
		s.mu.Unlock()
		if hangs != nil {
			<-hangs
		}
		if iface != "org.freedesktop.systemd1.Unit" || property != "ActiveState" {
			return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{"no such property"})
		}
		return dbus.MakeVariant(state), nil
	}
}

func (s *systemd) set(path, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states[path] = state
}

// ownBus starts a private dbus-daemon that stands for the system's, with a service manager on it.
func ownBus(t *testing.T, units ...string) (*systemd, *exec.Cmd) {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("no dbus-daemon is here: apt-get install dbus-daemon")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "bus.conf")
	text := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>custom</type><listen>unix:path=` + filepath.Join(dir, "socket") + `</listen>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(daemon, "--config-file="+config, "--nofork", "--nopidfile", "--print-address=1")
	out, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address = strings.TrimSpace(address)
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s := &systemd{states: map[string]string{}}
	for _, path := range units {
		s.states[path] = "inactive"
		methods := map[string]any{"Get": s.get(path)}
		if err := conn.ExportMethodTable(methods, dbus.ObjectPath("/org/freedesktop/systemd1/unit/"+path), "org.freedesktop.DBus.Properties"); err != nil {
			t.Fatal(err)
		}
	}
	if reply, err := conn.RequestName("org.freedesktop.systemd1", 0); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("%v, %v", reply, err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	return s, cmd
}

// A unit is good while systemd says on the bus that it is active, whatever its name is; a bus or a systemd
// that does not answer is no longer waited for than the check's time-out, and one that is gone is said.
func TestUnitOnABus(t *testing.T) {
	const path = "my_2dapp_401_2eservice" // my-app@1.service, as systemd writes it
	s, bus := ownBus(t, path)
	probe := unit("my-app@1.service")
	ask := func() (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return probe(ctx)
	}
	for state, isGood := range map[string]bool{"active": true, "reloading": true, "inactive": false, "failed": false, "activating": false, "deactivating": false, "maintenance": false} {
		s.set(path, state)
		said, err := ask()
		if isGood != (err == nil) || isGood && said != state || !isGood && !strings.Contains(fmt.Sprint(err), "it is "+state) {
			t.Errorf("%s: %q, %v", state, said, err)
		}
	}
	if said, err := unit("unknown.service")(t.Context()); err == nil {
		t.Errorf("a unit that nobody knows is %q", said)
	}

	release := make(chan struct{})
	s.mu.Lock()
	s.hangs = release
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if said, err := probe(ctx); err == nil || time.Since(began) > patience {
		t.Errorf("a systemd that hangs: %q, %v after %s", said, err, time.Since(began))
	}
	s.mu.Lock()
	s.hangs = nil
	s.mu.Unlock()
	close(release)
	s.set(path, "active")
	if said, err := ask(); err != nil {
		t.Errorf("it answers again: %q, %v", said, err)
	}

	if _, err := os.Stat("/run/systemd/private"); err == nil {
		return // the real one would be asked next
	}
	_ = bus.Process.Kill()
	_ = bus.Wait()
	if said, err := ask(); err == nil || !strings.Contains(err.Error(), "systemd cannot be asked") {
		t.Errorf("without a bus: %q, %v", said, err)
	}
}
