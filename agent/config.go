package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"

	"github.com/goccy/go-yaml"

	"havip-cluster/agent/hooks"
	"havip-cluster/agent/logs"
	"havip-cluster/health"
	"havip-cluster/provider"
)

// configMax bounds the agent's configuration file, in bytes.
const configMax = 64 << 10

// Config is what `agent --config FILE` reads, and reads again at SIGHUP. What the
// cluster agrees on is not in it: that is changed by commands, on all nodes at once.
type Config struct {
	// Log is info or debug.
	Log string `yaml:"log"`
	// LogFormat is text or json.
	LogFormat logs.Format `yaml:"log_format"`
	// CheckGateway has each ENI's gateway asked by ARP every two seconds; an ENI whose
	// gateway does not answer loses its HAVIPs to one whose gateway does.
	CheckGateway bool `yaml:"check_gateway"`
	// Hooks are programs to run when a HAVIP comes or goes.
	Hooks hooks.Config `yaml:"hooks"`
	// WebhookAllow are networks to which this host sends webhooks although it would refuse them, such
	// as 127.0.0.0/8.
	WebhookAllow []netip.Prefix `yaml:"webhook_allow,omitempty"`
	// Checks says what checks of type exec may run on this node.
	Checks health.Programs `yaml:"checks"`
	// Provider is the cloud that this host asks, and its credentials' place.
	Provider provider.Config `yaml:"provider,omitempty"`
}

// LoadConfig reads the file at path; "" gives the defaults. An unknown key is an error
// with its line and column.
func LoadConfig(path string) (Config, error) {
	c := Config{Log: "info", LogFormat: logs.Text}
	if path == "" {
		return c, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, configMax+1))
	if err != nil {
		return c, fmt.Errorf("configuration: %w", err)
	}
	if len(raw) > configMax {
		return c, fmt.Errorf("configuration %s has more than %d bytes", path, configMax)
	}
	if err := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict()).Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	if c.Log == "" {
		c.Log = "info"
	}
	if c.Log != "info" && c.Log != "debug" {
		return c, fmt.Errorf("configuration %s: log: %q is no level: info or debug", path, c.Log)
	}
	if c.LogFormat == "" {
		c.LogFormat = logs.Text
	}
	if c.LogFormat != logs.Text && c.LogFormat != logs.JSON {
		return c, fmt.Errorf("configuration %s: log_format: %q is no format: text or json", path, c.LogFormat)
	}
	if err := c.Hooks.Check(); err != nil {
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	if err := c.Checks.Check(); err != nil {
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	if err := c.Provider.Check(); err != nil {
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	if _, err := newProvider(c.Provider); err != nil {
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// Level is the log level that Log names.
func (c Config) Level() slog.Level {
	if c.Log == "debug" {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// configure applies a configuration to the running agent.
func (a *node) configure(c Config) {
	a.options.Level.Set(min(c.Level(), a.options.Floor))
	if a.options.Sink != nil {
		a.options.Sink.SetFormat(c.LogFormat)
	}
	a.hooks.Configure(c.Hooks)
	a.webhookAllow.Store(&c.WebhookAllow)
	if a.health != nil {
		a.health.Allow(c.Checks)
	}
	if a.cloud != nil {
		a.cloud.configure(c.Provider)
	}
	if a.edge != nil {
		a.edge.CheckGateways(c.CheckGateway)
	}
}

// reload reads the configuration again. One that cannot be read changes nothing.
func (a *node) reload() {
	c, err := LoadConfig(a.options.ConfigFile)
	if err != nil {
		a.log.Error("the configuration was not read again; the agent goes on with what it has", "err", err)
		return
	}
	a.configure(c)
	a.log.Info("the configuration was read again", "file", a.options.ConfigFile, "log", c.Log, "check_gateway", c.CheckGateway)
}
