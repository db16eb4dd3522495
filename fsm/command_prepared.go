package fsm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// Prepared is a body that has been written down and read back once, as NewCommand does. It stands for the body wherever one
// is proposed, and may be proposed again: a configuration has megabytes, and is tried before it is proposed.
type Prepared struct{ command Command }

func (p *Prepared) kind() string { return p.command.Kind }

// Prepare writes a body down and reads it back. The error is that of a body which cannot be read back.
func Prepare(body Body) (*Prepared, error) {
	if p, ok := body.(*Prepared); ok {
		return p, nil
	}
	raw, err := json.Marshal(plainBody(body))
	if err != nil {
		return nil, fmt.Errorf("fsm: encode %s: %w", body.kind(), err)
	}
	c := Command{Kind: body.kind(), Body: raw, made: true}
	if err := c.open(); err != nil {
		return nil, err
	}
	return &Prepared{c}, nil
}

// noBody is what stands for the body of a command, which is its last field, while the rest is written or read.
var noBody = []byte("null}")

// json is the command as encoding/json writes it. That would look at each byte of the body again, which it has written
// itself.
func (c Command) json() ([]byte, error) {
	if !c.made {
		return json.Marshal(c)
	}
	body := c.Body
	c.Body = nil
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	raw = bytes.TrimSuffix(raw, noBody)
	out := make([]byte, 0, len(raw)+len(body)+1)
	return append(append(append(out, raw...), body...), '}'), nil
}

// DecodeKnown is DecodeCommand for a node that may have written the entry itself: when its body is, byte for byte, that of
// known, it is not read again. All the rest is. known may be nil.
func DecodeKnown(b []byte, known *Command) (Command, error) {
	if known == nil || known.body == nil || len(b) > MaxCommand || len(b) < len(known.Body)+2 || b[0] == 0 || b[0] > CommandVersion || b[len(b)-1] != '}' {
		return DecodeCommand(b)
	}
	at := len(b) - 1 - len(known.Body)
	if !bytes.HasSuffix(b[:at], bodyKey) || !bytes.Equal(b[at:len(b)-1], known.Body) {
		return DecodeCommand(b)
	}
	var c Command
	if err := decodeStrict(append(slices.Clone(b[1:at]), noBody...), &c); err != nil || c.Kind != known.Kind {
		return DecodeCommand(b)
	}
	c.Body, c.body, c.level = known.Body, known.body, known.level
	return c, nil
}

var bodyKey = []byte(`,"body":`)
