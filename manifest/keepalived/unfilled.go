package keepalived

import (
	"regexp"
	"strings"

	"havip-cluster/manifest"
)

const unfilledText = "is a placeholder that nothing was filled into; put its value in"

// placeholder is a whole word that a template would have replaced, such as @VIP@ or __VIP__.
var placeholder = regexp.MustCompile(`^(@[A-Za-z0-9_.-]+@|__[A-Za-z0-9_]+__|%[A-Z0-9_]+%|<[A-Z0-9_ -]+>)$`)

// reference is the length of ${NAME}, {{ NAME }} or {% TEXT %} at the beginning of a text, 0
// without one.
func reference(text string) int {
	for _, r := range []struct{ open, close string }{{"${", "}"}, {"{{", "}}"}, {"{%", "%}"}} {
		if strings.HasPrefix(text, r.open) {
			if end := strings.Index(text, r.close); end > 0 {
				return end + len(r.close)
			}
		}
	}
	return 0
}

// unfilled reports a word of s that stands for a value that is not known here.
func (p *parser) unfilled(at place, s *statement, w word) {
	if w.quoted && !strings.Contains(w.text, "{{") {
		return // as in the arguments of a script
	}
	text := w.text
	var why string
	lost := p.inAddresses()
	switch {
	case placeholder.MatchString(text), strings.Contains(text, "{{"), strings.HasPrefix(text, "{%"):
		why, lost = unfilledText, true
	case strings.Contains(text, "${_ENV"):
		why = "is an environment variable (keepalived 2.4), which is known on the host only; put its value in"
	case strings.Contains(text, "${_RANDOM"):
		why = "is a random number, different at each start; put a value in"
	case strings.Contains(text, "${"), strings.HasPrefix(text, "$") && isName(text[1:]):
		why = "the parameter " + strings.Trim(text[strings.IndexByte(text, '$'):], "${}") + " is not defined in this file; keepalived reads a bare $ and ignores the rest"
	default:
		return
	}
	s.unfilled = true
	option := s.key()
	if option != text {
		option += " " + text
	}
	if lost {
		p.lose(at, option, "%s", why)
		return
	}
	p.add(manifest.Wrong, at, option, "%s; the option is not taken", why)
}

// inAddresses says whether a list of addresses is open.
func (p *parser) inAddresses() bool {
	switch s := p.open[len(p.open)-1]; {
	case len(s.words) == 0:
		return false
	default:
		return s.key() == "virtual_ipaddress" || s.key() == "virtual_ipaddress_excluded" || s.key() == "unicast_peer"
	}
}
