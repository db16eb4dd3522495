package console

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"havip-cluster/api"
)

// functions are what templates call.
var functions = template.FuncMap{
	"asset": assetPath, "prose": prose, "or_dash": orDash, "text": text, "utc": utc, "rfc": rfc, "join": strings.Join,
	"micros": micros, "ago": ago, "stateOf": stateOf, "seconds": seconds, "wall": wallOf, "pathOf": pathTo, "rangeOf": rangeOf, "map": pairs, "bytes": sizeOf, "first": first,
}

// piece is a part of a sentence; those between backquotes are commands to type.
type piece struct {
	Text string
	Code bool
}

// prose takes a sentence of the API apart.
func prose(sentence string) []piece {
	var out []piece
	for i, part := range strings.Split(sentence, "`") {
		if part != "" {
			out = append(out, piece{part, i%2 == 1})
		}
	}
	return out
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// text is a string that may be null.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
func rfc(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// wallOf is a time that may be null; the zero one then.
func wallOf(t any) time.Time {
	switch t := t.(type) {
	case *time.Time:
		if t != nil {
			return *t
		}
	case time.Time:
		return t
	}
	return time.Time{}
}

// micros is a duration as a timeline shows it.
func micros(us int64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%d µs", us)
	case us < 1_000_000:
		return fmt.Sprintf("%.1f ms", float64(us)/1000)
	}
	return fmt.Sprintf("%.2f s", float64(us)/1_000_000)
}

func seconds(s int64) string { return (time.Duration(s) * time.Second).String() }

// ago is a time against now, roughly.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	d := now.Sub(t)
	switch {
	case d < time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	}
	return fmt.Sprintf("%d days ago", d/(24*time.Hour))
}

func sizeOf(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
}

// state is how a HAVIP is shown: the cloud console's words, and the API's.
type state struct{ Class, Label, Title string }

func stateOf(v api.HAVIP) state {
	switch {
	case v.Deleting:
		return state{"warn", "Being deleted", "its owner has yet to release it"}
	case !v.Enabled:
		return state{"off", "Disabled", "UNBIND: it is to have no owner"}
	case v.State == api.StateAvailable:
		return state{"good", "Bound", "AVAILABLE: its owner serves it"}
	case v.State == api.StatePending:
		return state{"warn", "Pending", "PENDING: it has an owner, who has not said yet that it serves"}
	}
	return state{"bad", "Not bound", "UNBIND: nobody owns it"}
}

// rangeOf is a range in words.
func rangeOf(r api.Range) string {
	switch {
	case !r.Limit:
		return "any ENI of the subnet (no limit)"
	case len(r.Members) == 0:
		return "nobody: the range is empty"
	case r.Type == "eni":
		return "ENIs " + strings.Join(r.Members, ", ")
	}
	return "instances " + strings.Join(r.Members, ", ")
}

// pairs makes a map for a template that another one calls.
func pairs(kv ...any) map[string]any {
	out := map[string]any{}
	for i := 0; i+1 < len(kv); i += 2 {
		out[fmt.Sprint(kv[i])] = kv[i+1]
	}
	return out
}

// first is at most n of a list.
func first(n int, list []string) []string { return list[:min(n, len(list))] }
