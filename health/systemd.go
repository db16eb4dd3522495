package health

import (
	"context"
	"fmt"

	"github.com/coreos/go-systemd/v22/dbus"
)

// unit is good while systemd says that a unit is active. It asks over D-Bus; each run has a
// connection of its own, so that a bus that hangs holds up this check alone.
func unit(name string) Probe {
	return func(ctx context.Context) (string, error) {
		conn, err := dbus.NewWithContext(ctx)
		if err != nil {
			return "", fmt.Errorf("systemd cannot be asked: %w", err)
		}
		defer conn.Close()
		property, err := conn.GetUnitPropertyContext(ctx, name, "ActiveState")
		if err != nil {
			return "", err
		}
		switch state := fmt.Sprint(property.Value.Value()); state {
		case "active", "reloading":
			return state, nil
		default:
			return "", fmt.Errorf("it is %s", state)
		}
	}
}
