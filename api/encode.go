package api

import (
	"bufio"
	"encoding/json"
	"io"
	"reflect"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// answerBuffer is how many bytes of a long list are sent at a time.
const answerBuffer = 64 << 10

// jsonFormat is huma's, but lists are written element by element: a list of 10,000 HAVIPs is
// megabytes, and one buffer for all of it is grown and cleared for longer than it takes to fill.
var jsonFormat = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		if list := reflect.ValueOf(v); list.Kind() == reflect.Slice && list.Len() > 0 && list.Type().Elem().Kind() == reflect.Struct {
			return encodeList(w, list)
		}
		return huma.DefaultJSONFormat.Marshal(w, v)
	},
	Unmarshal: huma.DefaultJSONFormat.Unmarshal,
}

// answers are buffers of lists: most are short, and a new one for each would be most of what a read allocates.
var answers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, answerBuffer) }}

func encodeList(w io.Writer, list reflect.Value) error {
	out := answers.Get().(*bufio.Writer)
	out.Reset(w)
	defer func() { out.Reset(nil); answers.Put(out) }()
	enc := json.NewEncoder(out) // each element on a line of its own
	enc.SetEscapeHTML(false)
	separator := byte('[')
	for i := range list.Len() {
		if err := out.WriteByte(separator); err != nil {
			return err
		}
		if err := enc.Encode(list.Index(i).Addr().Interface()); err != nil {
			return err
		}
		separator = ','
	}
	if _, err := out.WriteString("]\n"); err != nil {
		return err
	}
	return out.Flush()
}
