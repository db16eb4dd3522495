package havip

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Settings is the table, in the order in which `havip show` lists them.
var Settings = []Setting{
	targets(Setting{Key: "require", Name: "required"},
		direct(func(s *Spec) *[]string { return &s.Require }),
		func(c *Change) **[]string { return &c.Require }, func(v *View) *[]string { return &v.Require }),
	targets(Setting{Key: "forbid", Name: "forbidden"},
		direct(func(s *Spec) *[]string { return &s.Forbid }),
		func(c *Change) **[]string { return &c.Forbid }, func(v *View) *[]string { return &v.Forbid }),
	scores(Setting{Key: "prefer", Name: "preferences"},
		direct(func(s *Spec) *map[string]int { return &s.Prefer }),
		func(c *Change) **map[string]int { return &c.Prefer }, func(v *View) *map[string]int { return &v.Prefer }),
	number(Setting{Key: "stickiness", Name: "stickiness", Low: 0, High: ScoreLimit},
		sparse(func(s *Spec) **int { return &s.Stickiness }, DefaultStickiness),
		func(c *Change) **int { return &c.Stickiness }, func(v *View) *int { return &v.Stickiness }),
	text(Setting{Key: "failback", Name: "failback"}, string(FailbackNever), isFailback,
		direct(func(s *Spec) *string { return &s.Failback }),
		func(c *Change) **string { return &c.Failback }, func(v *View) *string { return &v.Failback }),
	number(Setting{Key: "priority", Name: "priority", Low: -ScoreLimit, High: ScoreLimit},
		direct(func(s *Spec) *int { return &s.Priority }),
		func(c *Change) **int { return &c.Priority }, func(v *View) *int { return &v.Priority }),
	number(Setting{Key: "weight", Name: "weight", Low: 0, High: ScoreLimit},
		sparse(func(s *Spec) **int { return &s.Weight }, DefaultWeight),
		func(c *Change) **int { return &c.Weight }, func(v *View) *int { return &v.Weight }),
	number(Setting{Key: "fail_limit", Name: "failure limit", Low: 0, High: ScoreLimit},
		sparse(func(s *Spec) **int { return &s.FailLimit }, DefaultFailLimit),
		func(c *Change) **int { return &c.FailLimit }, func(v *View) *int { return &v.FailLimit }),
	yesNo(Setting{Key: "enabled", Mark: "disabled", verbs: "havip create --disabled, havip enable, havip disable"},
		not(func(s *Spec) *bool { return &s.Disabled }),
		func(c *Change) **bool { return &c.Enabled }, func(v *View) *bool { return &v.Enabled }),
	yesNo(Setting{Key: "managed", Mark: "not managed"},
		not(func(s *Spec) *bool { return &s.Unmanaged }),
		func(c *Change) **bool { return &c.Managed }, func(v *View) *bool { return &v.Managed }),
	yesNo(Setting{Key: "maintenance", Mark: "maintenance", verbs: "havip maintenance"},
		direct(func(s *Spec) *bool { return &s.Maintenance }),
		func(c *Change) **bool { return &c.Maintenance }, func(v *View) *bool { return &v.Maintenance }),
	text(Setting{Key: "description", Name: "description", High: DescriptionMax}, "", isLine,
		direct(func(s *Spec) *string { return &s.Description }),
		func(c *Change) **string { return &c.Description }, func(v *View) *string { return &v.Description }),
	text(Setting{Key: "probe", Name: "probe"}, "", isProbe,
		direct(func(s *Spec) *string { return &s.Probe }),
		func(c *Change) **string { return &c.Probe }, func(v *View) *string { return &v.Probe }),
	saidOnly(number(Setting{Key: "fail_period", Name: "failure period", Low: 0, High: FailPeriodMax},
		direct(func(s *Spec) *int { return &s.FailPeriod }),
		func(c *Change) **int { return &c.FailPeriod }, func(v *View) *int { return &v.FailPeriod })),
}

// isLine takes what a table and a log line can show as it is.
func isLine(text string) *Fault {
	switch {
	case len(text) > DescriptionMax:
		return fault(TooLong, "the description has %d bytes, at most %d", len(text), DescriptionMax)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return fault(BadValue, "the description %q has control characters or is not UTF-8; use one line of plain text", text)
	}
	return nil
}

func isFailback(text string) *Fault {
	if _, err := ParseFailback(text); err != nil {
		return fault(BadValue, "%s", err)
	}
	return nil
}

// The keys of each form in the order in which programs have always written them: logs, snapshots
// and answers stay byte for byte what they were. A setting that is not named here comes last.
const (
	// StateKeys are those of a HAVIP in a snapshot, CreateKeys, UpdateKeys and ConfigKeys those of
	// the commands that create and change one and of its part of an applied configuration.
	StateKeys  = "id name ip subnet vpc range prefer bans failback priority enabled deleting created epoch owner last draining since reason gave_up require forbid ban_ends stickiness weight unmanaged maintenance fail_limit fails eip guard served free"
	CreateKeys = "name ip subnet vpc range prefer failback priority require forbid stickiness weight fail_limit disabled unmanaged maintenance eip reuse_now force"
	UpdateKeys = "id name range prefer bans failback priority enabled require forbid stickiness weight fail_limit unmanaged maintenance evict force"
	ConfigKeys = "name id ip subnet vpc range prefer require forbid bans ban_ends failback priority stickiness weight fail_limit disabled unmanaged maintenance eip"
	// AnswerKeys are those of a HAVIP in an answer of the API, ManifestKeys in a file.
	AnswerKeys   = "id name ip subnet state eni node session epoch since index reason vpc range eip failback priority prefer bans enabled deleting waits draining created ban_ends require forbid stickiness weight fail_limit fails gave_up managed maintenance groups warnings"
	ManifestKeys = "name id ip subnet vpc range prefer require forbid bans ban_ends stickiness priority weight managed maintenance fail_limit failback enabled eip fails fail_ends gave_up draining deleting last owner"
)

func number(s Setting, at slot[int], change func(*Change) **int, view func(*View) *int) Setting {
	s.Kind, s.Default = Number, strconv.Itoa(at.get(&Spec{}))
	return bind(s, at, change, view, numbers(s))
}

// saidOnly shows a number to people only where somebody has said one.
func saidOnly(s Setting) Setting {
	print := s.print
	s.print = func(v *View) string {
		if text := print(v); text != "0" {
			return text
		}
		return ""
	}
	return s
}

func text(s Setting, otherwise string, check func(string) *Fault, at slot[string], change func(*Change) **string, view func(*View) *string) Setting {
	s.Kind, s.Default = Text, otherwise
	said := at.get
	at.get = func(sp *Spec) string {
		if text := said(sp); text != "" {
			return text
		}
		return otherwise
	}
	return bind(s, at, change, view, texts(check))
}

func targets(s Setting, at slot[[]string], change func(*Change) **[]string, view func(*View) *[]string) Setting {
	s.Kind, s.High = Targets, TargetsMax
	return bind(s, at, change, view, lists(s))
}

func scores(s Setting, at slot[map[string]int], change func(*Change) **map[string]int, view func(*View) *map[string]int) Setting {
	s.Kind, s.Low, s.High = Scores, -ScoreLimit, ScoreLimit
	return bind(s, at, change, view, tables(s))
}

func yesNo(s Setting, at slot[bool], change func(*Change) **bool, view func(*View) *bool) Setting {
	s.Kind, s.Default = YesNo, strconv.FormatBool(at.get(&Spec{}))
	return bind(s, at, change, view, switches)
}
