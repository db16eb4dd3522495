package manifest

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"havip-cluster/fsm"
)

// Form is what a text to import is.
type Form string

const (
	FormKeepalived  Form = "keepalived.conf"
	FormCIB         Form = "a CIB"
	FormHaresources Form = "haresources"
	FormHaCf        Form = "ha.cf"
	FormMSCS        Form = "the JSON of a Windows failover cluster"
)

// form tells one kind of text by how it begins or what is in it, and the way out when it is
// not what was asked for.
type form struct {
	Form
	has    *regexp.Regexp
	wayOut string
}

// foreignForms are looked through in this order; the first that is there names the text.
var foreignForms = []form{
	{FormCIB, regexp.MustCompile(`(?m)^\s*<(\?xml|cib[ >]|pacemaker-result|configuration>)|<cib[ >]`), "a Pacemaker CIB; use `import pacemaker`"},
	{FormMSCS, regexp.MustCompile(`(?m)^\s*[\[{](?s:.*)"(ResourceType|FailoverThreshold|AutoFailbackType|ClusterObject|OwnerNodes|QuorumType|NodeWeight)"\s*:`), "the JSON of a Windows failover cluster's cmdlets; use `import mscs`"},
	{"a configuration of havip-cluster", regexp.MustCompile(`(?m)^version: *1\s*$`), "a configuration of havip-cluster already; use `apply -f`"},
	{"corosync.conf", regexp.MustCompile(`(?m)^\s*(totem|nodelist|quorum) *\{`), "corosync.conf, which holds no addresses; `import pacemaker` takes the XML that `cibadmin -Q` prints"},
	{FormKeepalived, regexp.MustCompile(`(?m)^\s*(vrrp_instance|vrrp_sync_group|vrrp_script|global_defs|virtual_server)\b`), "keepalived.conf; use `import keepalived`"},
	{"the text of pcs", regexp.MustCompile(`(?m)^(Cluster Name:|Corosync Nodes:|Pacemaker Nodes:|Resources:\s*$| *(Resource|Group|Clone): \S)`), "the text of `pcs config`; give the XML that `cibadmin -Q` (or `pcs cluster cib`) prints to `import pacemaker`"},
	{"the text of crm", regexp.MustCompile(`(?m)^(primitive \S+ |node (\d+: )?\S+\s*(\\)?$(?s:.*)^(primitive|property|group|ms|clone|location|colocation) |property (cib-bootstrap-options:|\S+=))`),
		"the text of `crm configure show`; give the XML that `cibadmin -Q` prints to `import pacemaker`"},
	{"the output of crm_mon", regexp.MustCompile(`(?m)^(Cluster [Ss]ummary:|Full [Ll]ist of [Rr]esources:|Stack: corosync)`), "what crm_mon (or `pcs status`) prints; give the XML that `cibadmin -Q` prints to `import pacemaker`"},
	{FormHaCf, regexp.MustCompile(`(?m)^(auto_failback|nice_failback|udpport|ucast|bcast|deadtime|keepalive|initdead)\s`), "Heartbeat's ha.cf; use `import heartbeat` with haresources beside it"},
	{FormHaresources, regexp.MustCompile(`(?m)^\S+\s+(IPaddr2?|IPv6addr)::|^\S+\s(.*\s)?\S+::\S`), "Heartbeat's haresources; use `import heartbeat`"},
}

// packed are the beginnings of what is compressed, and what unpacks it.
var packed = []struct{ magic, name, unpack string }{
	{"\x1f\x8b", "gzip", "gunzip -c"}, {"BZh", "bzip2", "bunzip2 -c"}, {"\xfd7zXZ", "xz", "xz -dc"}, {"(\xb5\x2f\xfd", "zstd", "zstd -dc"},
	{"PK\x03\x04", "a zip archive", "unzip -p"},
}

// FormOf names what a text is, "" where nothing tells.
func FormOf(text string) Form {
	for _, f := range foreignForms {
		if f.has.MatchString(text) {
			return f.Form
		}
	}
	return ""
}

// WrongForm refuses a text that is another than those wanted, with the way out. What nothing
// tells is let through.
func WrongForm(file, text string, wanted ...Form) error {
	for _, f := range foreignForms {
		at := f.has.FindStringIndex(text)
		if at == nil {
			continue
		}
		for _, w := range wanted {
			if f.Form == w {
				return nil
			}
		}
		p := placeOf([]byte(text), at[0]+len(text[at[0]:at[1]])-len(strings.TrimLeft(text[at[0]:at[1]], " \t\r\n")))
		return Refuse(file, p.Line, 1, fsm.CodeMalformed, "this is %s", f.wayOut)
	}
	return nil
}

// ForeignText reads a file of another program as that would: bytes that are no UTF-8 stand
// for the character of their number (Latin-1), other control characters for '?'. odd is the
// first line with such a byte, 0 without one. What is packed, UTF-16, holds zero bytes, is
// empty or too long is refused.
func ForeignText(s Source) (text string, odd int, err error) {
	for _, p := range packed {
		if bytes.HasPrefix(s.Data, []byte(p.magic)) {
			return "", 0, Refuse(s.Name, 0, 0, CodeEncoding, "this is packed (%s); unpack it first: `%s %s`", p.name, p.unpack, s.Name)
		}
	}
	switch at := bytes.IndexByte(s.Data, 0); {
	case len(s.Data) > MaxBytes:
		return "", 0, Refuse(s.Name, 0, 0, fsm.CodeLimit, "the file has %d bytes, at most %d", len(s.Data), MaxBytes)
	case bytes.HasPrefix(s.Data, []byte("\xff\xfe")), bytes.HasPrefix(s.Data, []byte("\xfe\xff")):
		return "", 0, Refuse(s.Name, 1, 1, CodeEncoding, "the file is UTF-16 (or UTF-32); save it as UTF-8")
	case at >= 0:
		p := placeOf(s.Data, at)
		return "", 0, Refuse(s.Name, p.Line, p.Col, CodeEncoding, "the file holds a zero byte; is it UTF-16, or no text at all?")
	case len(bytes.TrimSpace(s.Data)) == 0:
		return "", 0, Refuse(s.Name, 1, 1, fsm.CodeMissing, "the file is empty")
	}
	var b strings.Builder
	line := 1
	for i := 0; i < len(s.Data); {
		r, size := utf8.DecodeRune(s.Data[i:])
		if r == utf8.RuneError && size <= 1 {
			r = rune(s.Data[i])
			if odd == 0 {
				odd = line
			}
		}
		switch {
		case r == '\n':
			line++
		case r < ' ' && r != '\r' && r != '\t', r >= 0x7f && r < 0xa0:
			r = '?'
		}
		b.WriteRune(r)
		i += size
	}
	return b.String(), odd, nil
}

// OddBytes is the text of the finding for a line that is not UTF-8.
func OddBytes(program string) string {
	return fmt.Sprintf("the file is not UTF-8 from this line on; %s does not mind, and comments are skipped", program)
}
