package havip

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

func numbers(s Setting) sort[int] {
	return sort[int]{
		same: func(a, b int) bool { return a == b },
		check: func(n int) *Fault {
			if n < s.Low || n > s.High {
				return fault(OutOfRange, "a %s of %d is not possible: %d to %d", s.Name, n, s.Low, s.High)
			}
			return nil
		},
		print: strconv.Itoa,
		parse: func(_ int, text string, _ bool) (int, error) {
			n, err := strconv.Atoi(text)
			if err != nil {
				return 0, fmt.Errorf("%q is not a whole number", text)
			}
			return n, nil
		},
	}
}

func texts(check func(string) *Fault) sort[string] {
	return sort[string]{
		same:  func(a, b string) bool { return a == b },
		clean: func(text string) string { return text }, // the slot has filled the default in
		check: check,
		print: func(text string) string { return text },
		parse: func(_, text string, _ bool) (string, error) { return text, nil },
	}
}

func lists(s Setting) sort[[]string] {
	return sort[[]string]{
		same:  slices.Equal[[]string],
		clean: func(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) },
		check: func(list []string) *Fault {
			if len(list) > s.High {
				return fault(TooMany, "%d %s nodes and ENIs, at most %d", len(list), s.Name, s.High)
			}
			return nil
		},
		targets: func(list []string) []string { return list },
		whole:   func(list []string) []string { return append([]string{}, list...) },
		print:   func(list []string) string { return strings.Join(list, ", ") },
		parse: func(old []string, text string, first bool) ([]string, error) {
			names := strings.Split(text, ",")
			switch {
			case text == "" && first:
				return []string{}, nil // one empty name empties the list
			case slices.Contains(names, ""), !first && len(old) == 0:
				return nil, fmt.Errorf("%q has an empty name in it", text)
			}
			return append(slices.Clip(old), names...), nil
		},
	}
}

func tables(s Setting) sort[map[string]int] {
	return sort[map[string]int]{
		same:  maps.Equal[map[string]int, map[string]int],
		clean: maps.Clone[map[string]int],
		check: func(scores map[string]int) *Fault {
			if len(scores) > TargetsMax {
				return fault(TooMany, "%d %s, at most %d", len(scores), s.Name, TargetsMax)
			}
			for _, who := range slices.Sorted(maps.Keys(scores)) {
				if n := scores[who]; n < s.Low || n > s.High {
					return fault(OutOfRange, "the score %d for %s is not between %d and %d", n, who, s.Low, s.High)
				}
			}
			return nil
		},
		targets: func(scores map[string]int) []string { return slices.Sorted(maps.Keys(scores)) },
		whole: func(scores map[string]int) map[string]int {
			out := make(map[string]int, len(scores))
			maps.Copy(out, scores)
			return out
		},
		print: func(scores map[string]int) string {
			var out []string
			for _, who := range slices.Sorted(maps.Keys(scores)) {
				out = append(out, fmt.Sprintf("%s=%d", who, scores[who]))
			}
			return strings.Join(out, ", ")
		},
		parse: parseScore,
	}
}

// parseScore adds one TARGET=SCORE; one empty text is no preference at all.
func parseScore(old map[string]int, text string, first bool) (map[string]int, error) {
	if text == "" && first {
		return map[string]int{}, nil
	}
	if !first && len(old) == 0 {
		return nil, fmt.Errorf("an empty text takes all preferences away; %q cannot go with it", text)
	}
	i := strings.LastIndex(text, "=")
	if i < 1 {
		return nil, fmt.Errorf("%q is not NODE=SCORE or ENI=SCORE", text)
	}
	n, err := strconv.Atoi(text[i+1:])
	if err != nil {
		return nil, fmt.Errorf("%q: %q is not a whole number", text, text[i+1:])
	}
	if _, twice := old[text[:i]]; twice {
		return nil, fmt.Errorf("names %s twice", text[:i])
	}
	scores := maps.Clone(old)
	if scores == nil {
		scores = map[string]int{}
	}
	scores[text[:i]] = n
	return scores, nil
}

var switches = sort[bool]{
	same:  func(a, b bool) bool { return a == b },
	check: func(bool) *Fault { return nil },
	print: strconv.FormatBool,
	parse: func(_ bool, text string, _ bool) (bool, error) {
		on, err := strconv.ParseBool(text)
		if err != nil {
			return false, fmt.Errorf("%q is not true or false", text)
		}
		return on, nil
	},
}
