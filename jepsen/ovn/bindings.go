package ovn

import (
	"bufio"
	"encoding/json"
	"io"
	"slices"
	"sync"
)

// Binding is what the southbound database says of a virtual port from a moment on.
type Binding struct {
	At     int64  // Lab.Now of when it was told
	Port   string // of type virtual
	Parent string // the port of the node that has it; "": nobody
}

type bindings struct {
	mu   sync.Mutex
	list []Binding
}

// watch starts a client of the southbound database that is told of each change.
func (f *Fabric) watch() error {
	read, write := io.Pipe()
	go func() {
		lines := bufio.NewScanner(read)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			f.heard(f.lab.Now(), lines.Bytes())
		}
		_ = read.CloseWithError(lines.Err()) // who writes must not wait for a reader that has gone
	}()
	return f.startTo(write, f.lab.Switch(), f.dir, "ovsdb-client", "-f", "json", "monitor", f.socket("sb"), "OVN_Southbound", "Port_Binding", "logical_port,type,virtual_parent")
}

// heard takes one table of changes: rows of id, action, logical_port, type, virtual_parent.
func (f *Fabric) heard(at int64, line []byte) {
	var table struct {
		Headings []string
		Data     [][]any
	}
	if json.Unmarshal(line, &table) != nil {
		return
	}
	column := func(row []any, name string) string {
		if i := slices.Index(table.Headings, name); i >= 0 && i < len(row) {
			text, _ := row[i].(string) // an empty optional is ["set",[]]
			return text
		}
		return ""
	}
	f.bindings.mu.Lock()
	defer f.bindings.mu.Unlock()
	for _, row := range table.Data {
		if action := column(row, "action"); column(row, "type") == "virtual" && (action == "new" || action == "initial" || action == "insert") {
			f.bindings.list = append(f.bindings.list, Binding{at, column(row, "logical_port"), column(row, "virtual_parent")})
		}
	}
}

// Bindings are all changes so far, in the order in which they were told.
func (f *Fabric) Bindings() []Binding {
	f.bindings.mu.Lock()
	defer f.bindings.mu.Unlock()
	return slices.Clone(f.bindings.list)
}

// Parent is the node that has a virtual port now, by the southbound database; "" is nobody.
func (f *Fabric) Parent(port string) string {
	list := f.Bindings()
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Port == port {
			return list[i].Parent
		}
	}
	return ""
}
