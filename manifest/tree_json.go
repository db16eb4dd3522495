package manifest

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"havip-cluster/fsm"
)

// parseJSON reads JSON that is known to be valid, in one pass over the bytes.
func parseJSON(p *pacer, data []byte) (*tree, error) {
	r := &jsonReader{pacer: p, data: data, so: Place{1, 1}}
	root, err := r.value(1)
	if err != nil {
		return nil, err
	}
	root.size = r.count
	return root, nil
}

type jsonReader struct {
	*pacer
	data  []byte
	at    int    // offset of what is read next
	so    Place  // of it
	count int    // values and keys
	slab  []tree // memory for values
}

// take goes on to an offset: places only grow, so each byte is counted once.
func (r *jsonReader) take(until int) []byte {
	taken := r.data[r.at:until]
	for _, b := range taken {
		switch {
		case b == '\n':
			r.so = Place{r.so.Line + 1, 1}
		case utf8.RuneStart(b):
			r.so.Col++
		}
	}
	r.at = until
	return taken
}

// next goes on to the next byte that means something by itself. What stands between values is where it belongs,
// as the text is valid.
func (r *jsonReader) next() byte {
	end := r.at
	for end < len(r.data) && strings.IndexByte(" \t\r\n,:", r.data[end]) >= 0 {
		end++
	}
	r.take(end)
	if end == len(r.data) {
		return 0
	}
	return r.data[end]
}

// made is a new value here, within the limits.
func (r *jsonReader) made(depth int) (*tree, error) {
	r.count++
	switch {
	case depth > MaxDepth || r.count > MaxNodes:
		return nil, fault(r.so, "", fsm.CodeLimit, "nested deeper than %d, or more than %d values", MaxDepth, MaxNodes)
	case r.count > denseFrom+r.at/bytesPerValue:
		return nil, tooDense(r.so, r.count, r.at)
	case r.count%valuesBetweenChecks == 0:
		if err := r.look(); err != nil {
			return nil, err
		}
	}
	if len(r.slab) == 0 {
		r.slab = make([]tree, min(slabSize, 1+(len(r.data)-r.at)/2))
	}
	n := &r.slab[0]
	r.slab = r.slab[1:]
	n.Place = r.so
	return n, nil
}

func (r *jsonReader) value(depth int) (*tree, error) {
	first := r.next()
	n, err := r.made(depth)
	if err != nil {
		return nil, err
	}
	switch first {
	case '{', '[':
		n.shape = shapeList
		if first == '{' {
			n.shape = shapeMapping
		}
		return n, r.inside(n, depth)
	case '"':
		n.shape = shapeText
		n.text, err = r.quoted()
		return n, err
	}
	end := r.at
	for end < len(r.data) && strings.IndexByte(" \t\r\n,]}", r.data[end]) < 0 {
		end++
	}
	switch word := string(r.take(end)); word {
	case "null":
		n.shape = shapeNull
	case "true", "false":
		n.shape, n.text = shapeBool, word
	default:
		n.shape, n.text = shapeFloat, word
		if _, err := strconv.ParseInt(word, 10, 64); err == nil {
			n.shape = shapeInt
		}
	}
	return n, nil
}

// inside reads the content of a list or an object up to its end.
func (r *jsonReader) inside(n *tree, depth int) error {
	r.take(r.at + 1)
	for c := r.next(); c != ']' && c != '}'; c = r.next() {
		if n.shape == shapeMapping {
			key, err := r.value(depth + 1)
			if err != nil {
				return err
			}
			n.keys = append(n.keys, key)
		}
		item, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
	r.take(r.at + 1)
	return nil
}

// quoted reads a text in quotes.
func (r *jsonReader) quoted() (text string, err error) {
	end, escaped := r.at+1, false
	for r.data[end] != '"' {
		if r.data[end] == '\\' {
			escaped = true
			end++
		}
		end++
	}
	raw := r.take(end + 1)
	if !escaped {
		return string(raw[1 : len(raw)-1]), nil
	}
	err = json.Unmarshal(raw, &text)
	return text, err
}
