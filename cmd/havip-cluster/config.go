package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/goccy/go-yaml"
)

// configMax bounds the agent's configuration file, in bytes.
const configMax = 64 << 10

// agentConfig is what `agent --config FILE` reads, and reads again at SIGHUP. What the
// cluster agrees on is not in it: that is changed by commands, on all nodes at once.
type agentConfig struct {
	// Log is info or debug.
	Log string `yaml:"log"`
	// CheckGateway has each ENI's gateway asked by ARP every two seconds; an ENI whose
	// gateway does not answer loses its HAVIPs to one whose gateway does.
	CheckGateway bool `yaml:"check_gateway"`
	// Hooks are programs to run when a HAVIP comes or goes.
	Hooks hookConfig `yaml:"hooks"`
}

// loadConfig reads the file at path; "" gives the defaults. An unknown key is an error
// with its line and column.
func loadConfig(path string) (agentConfig, error) {
	c := agentConfig{Log: "info"}
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
	if err := c.Hooks.check(); err != nil {
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

func (c agentConfig) level() slog.Level {
	if c.Log == "debug" {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// configure applies a configuration to the running agent.
func (a *runner) configure(c agentConfig) {
	a.level.Set(min(c.level(), a.floor))
	a.hooks.config.Store(&c.Hooks)
	if a.edge != nil {
		a.edge.CheckGateways(c.CheckGateway)
	}
}

// reload reads the configuration again. One that cannot be read changes nothing.
func (a *runner) reload() {
	c, err := loadConfig(a.configFile)
	if err != nil {
		a.log.Error("the configuration was not read again; the agent goes on with what it has", "err", err)
		return
	}
	a.configure(c)
	a.log.Info("the configuration was read again", "file", a.configFile, "log", c.Log, "check_gateway", c.CheckGateway)
}
