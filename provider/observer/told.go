package observer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/provider"
)

// What was told is in the journal of the log, so that a new leader tells nothing twice. An event of kind drift begins
// with one of these words, and the key of the difference in brackets.
const (
	Kind   = "drift"
	begins = "begins ["
	ends   = "ends ["
)

// silentKey is that of a cloud which does not answer.
const silentKey = "cloud-silent"

// Told is a difference that an event told of, and none has ended.
type Told struct {
	Key   string
	HAVIP string // name
	Text  string // without the key
}

// Outstanding reads the journal, oldest first, and gives what has begun and not ended, sorted by key.
func Outstanding(journal []fsm.Event) []Told {
	open := map[string]Told{}
	for _, e := range journal {
		if e.Kind != Kind {
			continue
		}
		if key, text, ok := cut(e.Text, begins); ok {
			open[key] = Told{key, e.HAVIP, text}
		} else if key, _, ok := cut(e.Text, ends); ok {
			delete(open, key)
		}
	}
	return slices.SortedFunc(maps.Values(open), func(a, b Told) int { return strings.Compare(a.Key, b.Key) })
}

func cut(text, word string) (key, rest string, ok bool) {
	if text, ok = strings.CutPrefix(text, word); !ok {
		return "", "", false
	}
	return cutKey(text)
}

func cutKey(text string) (key, rest string, ok bool) {
	key, rest, ok = strings.Cut(text, "]: ")
	return key, rest, ok
}

// due are the events to write: what is there and was not told begins, what was told and is not there ends. While the
// cloud is not seen nothing of it ends or begins, but that it is silent.
func due(told []Told, drift []provider.Warning, last Snapshot, inVain int) (out []fsm.ReportEvent) {
	open := make(map[string]Told, len(told))
	for _, t := range told {
		open[t.Key] = t
	}
	silent, wasSilent := last.Err != "", false
	if _, there := open[silentKey]; there {
		wasSilent = true
		delete(open, silentKey)
	}
	switch {
	case silent && !wasSilent && inVain >= silentAfter:
		return []fsm.ReportEvent{event(begins, silentKey, "", "the cloud does not answer: "+last.Err+"; nothing depends on it but the comparison")}
	case silent:
		return nil
	case last.At.IsZero():
		return nil
	case wasSilent:
		out = append(out, event(ends, silentKey, "", "the cloud answers again"))
	}
	count := len(open)
	var begin []fsm.ReportEvent
	for _, w := range drift {
		key := strings.TrimSpace(w.Key())
		if _, there := open[key]; there {
			delete(open, key)
			continue
		}
		text := w.Message
		if w.Command != "" {
			text += "; `" + w.Command + "`"
		}
		begin = append(begin, event(begins, key, w.HAVIP, text))
	}
	for _, key := range slices.Sorted(maps.Keys(open)) {
		out = append(out, event(ends, key, open[key].HAVIP, cmp.Or(open[key].Text, "it is so no more")))
	}
	room := max(0, toldMax-(count-len(open)))
	out = append(out, begin[:min(len(begin), room)]...)
	return out[:min(len(out), eventsMax)]
}

func event(word, key, havip, text string) fsm.ReportEvent {
	return fsm.ReportEvent{Kind: Kind, HAVIP: havip, Text: fmt.Sprintf("%s%s]: %s", word, key, text)}
}
