package fsm

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var (
	programName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,59}$`)
	unitName    = regexp.MustCompile(`^[a-zA-Z0-9:_.\\@-]{1,200}\.(service|socket|target|mount|timer|path|scope|slice|device|automount|swap)$`)
	statusRange = regexp.MustCompile(`^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$`)
	headerLine  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,60}: ?[^\\x00-\\x1f\\x7f]*$")
	serverName  = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?$`)
)

// Complete fills in the defaults, so that one that changes later does not change what was
// agreed on, and brings lists into their order.
func (k Check) Complete() Check {
	k.Interval = cmp.Or(k.Interval, DefaultCheckInterval)
	k.Timeout = cmp.Or(k.Timeout, min(DefaultCheckTimeout, k.Interval))
	k.Rise, k.Fall = cmp.Or(k.Rise, DefaultCheckRise), cmp.Or(k.Fall, DefaultCheckFall)
	if k.Type == CheckHTTP {
		k.Status = cmp.Or(k.Status, "200-399")
	}
	if k.Type == CheckSystemd && k.Target != "" && !strings.Contains(k.Target, ".") {
		k.Target += ".service"
	}
	k.Nodes, k.HAVIPs = ordered(k.Nodes), ordered(k.HAVIPs)
	if len(k.Headers) == 0 {
		k.Headers = nil
	}
	return k
}

// ordered is a sorted copy; nil for none.
func ordered(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return slices.Sorted(slices.Values(list))
}

// Valid refuses a check that is wrong by itself, whatever cluster it is in.
func (k Check) Valid() *Refusal {
	if !subnetName.MatchString(k.Name) {
		return Refuse(CodeMalformed, "%q cannot name a check: use 1 to 60 letters, digits, '.', '_' and '-'", clip(k.Name, MaxReason))
	}
	if r := k.validTimes(); r != nil {
		return r
	}
	switch {
	case k.Score > 0 || k.Score < -ScoreLimit:
		return Refuse(CodeRange, "check %s: the effect %d is not possible: bar, or a score from -1 to -%d", k.Name, k.Score, ScoreLimit)
	case k.Score != 0 && k.Drop:
		return Refuse(CodeParameter, "check %s: when-all-fail is drop, but its effect is a score, which never takes an owner away; the effect bar does", k.Name)
	case len(k.Nodes) > MaxNodes:
		return Refuse(CodeLimit, "check %s names %d nodes, at most %d", k.Name, len(k.Nodes), MaxNodes)
	case len(k.HAVIPs) > MaxCheckHAVIPs:
		return Refuse(CodeLimit, "check %s names %d HAVIPs, at most %d", k.Name, len(k.HAVIPs), MaxCheckHAVIPs)
	}
	for what, list := range map[string][]string{"node": k.Nodes, "HAVIP": k.HAVIPs} {
		for i, name := range list {
			if i > 0 && list[i-1] == name {
				return Refuse(CodeDuplicate, "check %s names %s %s twice", k.Name, what, clip(name, MaxReason))
			}
		}
	}
	if r := k.validOptions(); r != nil {
		return r
	}
	return k.validTarget()
}

func (k Check) validTimes() *Refusal {
	bounded := func(what string, d, lo, hi time.Duration) *Refusal {
		if d < lo || d > hi {
			return Refuse(CodeRange, "check %s: %s of %s is not possible: %s to %s", k.Name, what, d, lo, hi)
		}
		return nil
	}
	for _, r := range []*Refusal{
		bounded("an interval", k.Interval, CheckIntervalMin, CheckIntervalMax),
		bounded("a timeout", k.Timeout, CheckTimeoutMin, CheckTimeoutMax),
		bounded("a grace", k.Grace, 0, CheckGraceMax),
		bounded("a max-age", k.MaxAge, 0, CheckAgeMax),
	} {
		if r != nil {
			return r
		}
	}
	if k.Timeout > k.Interval {
		return Refuse(CodeRange, "check %s: the timeout %s is longer than the interval %s", k.Name, k.Timeout, k.Interval)
	}
	if k.Rise < 1 || k.Rise > CheckCountMax || k.Fall < 1 || k.Fall > CheckCountMax {
		return Refuse(CodeRange, "check %s: rise %d and fall %d are not possible: 1 to %d", k.Name, k.Rise, k.Fall, CheckCountMax)
	}
	return nil
}

// validOptions refuses what another type has, and what is no text.
func (k Check) validOptions() *Refusal {
	if k.Type != CheckHTTP && (k.Status != "" || k.Body != "" || len(k.Headers) > 0 || k.SNI != "" || k.Verify) {
		return Refuse(CodeParameter, "check %s: status, body, header, sni and verify are of type http, and it is of type %s", k.Name, clip(string(k.Type), MaxNameRunes))
	}
	if k.Type != CheckFile && (k.Content != "" || k.MaxAge != 0) {
		return Refuse(CodeParameter, "check %s: content and max-age are of type file, and it is of type %s", k.Name, clip(string(k.Type), MaxNameRunes))
	}
	for _, text := range append([]string{k.Target, k.Body, k.Content, k.Status, k.SNI}, k.Headers...) {
		if len(text) > MaxCheckText {
			return Refuse(CodeTooLong, "check %s has a text of %d bytes, at most %d", k.Name, len(text), MaxCheckText)
		}
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }) {
			return Refuse(CodeMalformed, "check %s: %q has control characters or is not UTF-8", k.Name, text)
		}
	}
	if len(k.Headers) > MaxCheckHeaders {
		return Refuse(CodeLimit, "check %s has %d headers, at most %d", k.Name, len(k.Headers), MaxCheckHeaders)
	}
	for _, h := range k.Headers {
		if !headerLine.MatchString(h) {
			return Refuse(CodeMalformed, "check %s: %q is not a header; write Name: value", k.Name, h)
		}
	}
	if k.SNI != "" && !serverName.MatchString(k.SNI) {
		return Refuse(CodeMalformed, "check %s: %q is not a server name", k.Name, k.SNI)
	}
	if k.Type == CheckHTTP {
		if _, ok := ParseStatuses(k.Status); !ok {
			return Refuse(CodeMalformed, "check %s: %q does not say which statuses are good; write such as 200-399,401", k.Name, k.Status)
		}
	}
	return nil
}

// StatusRange is HTTP statuses from Low to High, both included.
type StatusRange struct{ Low, High int }

// ParseStatuses reads such as 200-399,401.
func ParseStatuses(text string) ([]StatusRange, bool) {
	var out []StatusRange
	for _, part := range strings.Split(text, ",") {
		part = strings.TrimSpace(part)
		if !statusRange.MatchString(part) {
			return nil, false
		}
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		r := StatusRange{}
		r.Low, _ = strconv.Atoi(low) // the expression lets digits through only
		r.High, _ = strconv.Atoi(high)
		if r.Low > r.High {
			return nil, false
		}
		out = append(out, r)
	}
	return out, true
}

func (k Check) validTarget() *Refusal {
	wrong := func(form string) *Refusal {
		return Refuse(CodeMalformed, "check %s: %q is not a target of type %s: %s", k.Name, clip(k.Target, MaxReason), k.Type, form)
	}
	switch k.Type {
	case CheckTCP:
		host, port, err := net.SplitHostPort(k.Target)
		if n, bad := strconv.Atoi(port); err != nil || bad != nil || n < 1 || n > 65535 || !hostName(host) {
			return wrong("write HOST:PORT, such as 127.0.0.1:5432 or [::1]:5432")
		}
	case CheckHTTP:
		u, err := url.Parse(k.Target)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || !hostName(u.Hostname()) || u.User != nil || u.Opaque != "" {
			return wrong("write a URL such as http://127.0.0.1:80/health or https://..., without a user")
		}
	case CheckExec:
		if !programName.MatchString(k.Target) {
			return wrong("write the name of a program that the node's file or its directory checks.d has, no path")
		}
	case CheckProcess:
		file, isFile := strings.CutPrefix(k.Target, "pidfile:")
		if isFile && !plainPath(file) || !isFile && (k.Target == "" || len(k.Target) > 255 || strings.ContainsAny(k.Target, "/ ")) {
			return wrong("write the name of the program, such as nginx, or pidfile:/run/nginx.pid")
		}
	case CheckFile:
		if !plainPath(k.Target) {
			return wrong("write the whole path of a file, such as /run/app/ready")
		}
	case CheckPing, CheckARP:
		a, err := netip.ParseAddr(k.Target)
		if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() {
			return wrong("write an IPv4 or IPv6 address")
		}
	case CheckSystemd:
		if !unitName.MatchString(k.Target) {
			return wrong("write the name of a unit, such as nginx.service")
		}
	default:
		return Refuse(CodeParameter, "check %s: %q is not a type of check: arp, exec, file, http, ping, process, systemd or tcp", k.Name, clip(string(k.Type), MaxNameRunes))
	}
	return nil
}

func plainPath(p string) bool { return strings.HasPrefix(p, "/") && path.Clean(p) == p && p != "/" }

func hostName(h string) bool {
	if _, err := netip.ParseAddr(h); err == nil {
		return true
	}
	return serverName.MatchString(h)
}
