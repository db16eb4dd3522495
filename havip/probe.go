package havip

import (
	"fmt"
	"strconv"
	"strings"
)

// ProbePathMax is the most bytes of the path of a probe.
const ProbePathMax = 200

// Probe is what a load balancer asks, at a node's own addresses, to learn which node has a HAVIP.
// The zero value is no probe.
type Probe struct {
	Port uint16
	Path string // of HTTP, from "/" on; "": TCP
}

// ParseProbe reads "", tcp:PORT or http:PORT[/PATH]. Each probe has one text: what it reads,
// String gives again.
func ParseProbe(text string) (Probe, error) {
	if text == "" {
		return Probe{}, nil
	}
	kind, rest, _ := strings.Cut(text, ":")
	number, path, hasPath := strings.Cut(rest, "/")
	port, err := strconv.ParseUint(number, 10, 16)
	p := Probe{Port: uint16(port)}
	switch {
	case kind != "tcp" && kind != "http":
		return Probe{}, fmt.Errorf("the probe %q is neither tcp:PORT nor http:PORT/PATH, such as tcp:61000", text)
	case err != nil || port == 0 || strconv.FormatUint(port, 10) != number:
		return Probe{}, fmt.Errorf("the probe %q has no port between 1 and 65535, such as %s:61000", text, kind)
	case kind == "tcp" && hasPath:
		return Probe{}, fmt.Errorf("the probe %q has a path, and TCP has none; did you mean http:%s/%s?", text, number, path)
	case kind == "tcp":
		return p, nil
	case !hasPath:
		return Probe{}, fmt.Errorf("the probe %q has no path; use http:%s/", text, number)
	}
	p.Path = "/" + path
	if len(p.Path) > ProbePathMax {
		return Probe{}, fmt.Errorf("the path of the probe has %d bytes, at most %d", len(p.Path), ProbePathMax)
	}
	for _, c := range []byte(p.Path) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`?#%"\`, c) >= 0 {
			return Probe{}, fmt.Errorf("the path of the probe %q has the character %q; use letters, digits and /-_.~", text, c)
		}
	}
	return p, nil
}

// String is the text that ParseProbe reads.
func (p Probe) String() string {
	switch {
	case p.Port == 0:
		return ""
	case p.Path == "":
		return fmt.Sprintf("tcp:%d", p.Port)
	}
	return fmt.Sprintf("http:%d%s", p.Port, p.Path)
}

// Probing is the probe of a spec that was checked.
func (s Spec) Probing() Probe {
	p, err := ParseProbe(s.Probe)
	if err != nil {
		return Probe{} // a log of a later version: none is the safe reading
	}
	return p
}

func isProbe(text string) *Fault {
	if _, err := ParseProbe(text); err != nil {
		return fault(BadValue, "%s", err)
	}
	return nil
}
