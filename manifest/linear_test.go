package manifest

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"havip-cluster/testbed/labtest"
)

// bodies are files that are dear to some reader of YAML: each is one thing, again and again. size
// is in bytes.
func bodies(size int) map[string]string {
	again := func(s string) string { return strings.Repeat(s, size/len(s)) }
	numbered := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	deeper := func(what string) string {
		var b strings.Builder
		for i := 0; b.Len() < size; i++ {
			b.WriteString(strings.Repeat(" ", i) + what + "\n")
		}
		return b.String()
	}
	stairs := func(top int) string {
		var b strings.Builder
		for b.Len() < size {
			for i := range top {
				b.WriteString(strings.Repeat(" ", i) + "a:\n")
			}
		}
		return b.String()
	}
	comments := strings.Repeat("# x\n # y\n", MaxComments/2)
	return map[string]string{
		"HAVIPs":  "version: 1\nhavips:\n" + numbered("  - name: h%d\n    ip: 10.0.0.1\n    subnet: s1\n    range: {type: cvm, members: [node-1, node-2], limit: true}\n"),
		"entries": again("- \n"), "entries of entries": "a:\n" + again("- - - - - - - -\n"), "opened lists": again("["), "opened mappings": again("{a: "),
		"pairs of brackets": "[" + again("[],") + "]", "flow list": "[" + again("a,") + "]", "flow list in lines": "[" + again("a,\n") + "]", "flow mapping": "{" + again("a: b,") + "}",
		"question marks": again("? "), "lines of question marks": again("? a\n"), "colons": again(": "), "lines of colons": again(": a\n"), "keys": again("a: b\n"), "different keys": numbered("k%d: b\n"),
		"words": again("abc\n"), "comments": "a: b\n" + again("# x\n"), "comments and entries": again("# x\n- a\n"), "one comment": "#" + again("x") + "\na: b\n", "comments behind": again("a: b # x\n"),
		"as many comments as may be": strings.Repeat(" -", 0) + "a:\n" + comments + again("b: c\n"), "comments, then stairs": comments + stairs(MaxIndent),
		"dashes, comments, an end": strings.Repeat("- ", MaxDepth) + "a\n" + comments + again("- a\n"),
		"documents":                again("---\na: b\n"), "starts": again("---\n"), "ends": again("...\n"), "tabs": again("\t"), "lines of tabs": "a:\n" + again("\t\n"), "blanks": again(" "), "empty lines": "a: b\n" + again("\n") + "c: d\n",
		"long key": again("x") + ": a\n", "long text": "a: " + again("x ") + "\n", "text in lines": "a: " + again("x\n  ") + "\n", "quoted text": "a: \"" + again("x ") + "\"\n", "quoted lines": "a: \"" + again("x\n ") + "\"\n",
		"no end of quotes": "a: \"" + again("x "), "quotes": again("\""), "single quotes": again("'"), "escapes": "a: \"" + again("\\n") + "\"\n", "quoted entries": "a:\n" + again("- \"a\"\n"),
		"anchors": "a:\n" + again("- &a b\n"), "different anchors": "a:\n" + numbered("- &a%d b\n"), "aliases": "a: &a b\nc:\n" + again("- *a\n"), "ampersands": again("&a "), "tags": again("!!str "), "entries with tags": "a:\n" + again("- !!str a\n"),
		"exclamation marks": again("!"), "stars": again("*a "), "directives": again("%a\n"), "ever deeper": deeper("a:"), "ever deeper entries": deeper("-"), "stairs": stairs(MaxDepth - 1),
		"literal": "a: |\n" + again("  x\n"), "folded": "a: >\n" + again("  x\n\n"), "literals": "a:\n" + again("- |\n  a\n"), "bars": again("|\n"), "merges": "x: &x {a: b}\n" + again("<<: *x\n"), "backslashes": again("\\"),
		"CRLF": again("a: b\r\n"), "CR": again("a: b\r"), "NEL": again("a: b\u0085"), "LS": again("a: b\u2028"), "letters": "a: " + again("é") + "\n", "at": again("@"), "commas": again(","), "closed lists": again("]"),
		"keys of brackets": again("[]: "), "keys of braces": again("{}: a\n"), "quoted keys": again("\"a\": b\n"), "question marks in flow": "[" + again("? a,") + "]", "comments in flow": "[\n" + again("# x\n") + "]",
		"comment behind a dash": again("- # x\n"), "comment behind a key": again("a: # x\n"), "zeros": "a: " + again("0") + "\n", "lists of entries": again("- 1\n"), "floats": "a:\n" + again("- 1e9\n"), "times": "a: " + again("1:") + "\n",
		"JSON": "{" + again("\"a\":1,") + "\"b\":2}", "JSON cut": "{" + again("\"a\":1,"), "JSON lists": "[" + again("[1],") + "1]", "JSON in YAML": "[\n" + again("{\"a\":\n1},\n") + "]", "JSON numbers": "[" + again("1,") + "1]",
	}
}

// A file costs in proportion to its bytes, whatever is in it, or is refused. Bytes of memory are
// what a busy machine does not change; the processor's time may be 20 times that of an ordinary file as long.
func TestReadingIsLinear(t *testing.T) {
	size, most := 1<<20, uint64(150)
	if labtest.Race { // it makes all of this some ten times as slow and as large
		size, most = 1<<16, 10_000
	}
	all := bodies(size)
	names := slices.Sorted(maps.Keys(all))
	began := processorTime(t)
	_, _, _ = Decode([]byte(all["HAVIPs"])) // an ordinary file, but for its addresses
	ordinary := processorTime(t) - began
	for _, name := range names {
		data := []byte(all[name])
		var before, after runtime.MemStats
		least := time.Hour
		for range 3 {
			runtime.ReadMemStats(&before)
			began := processorTime(t)
			_, _, err := Decode(data)
			least = min(least, processorTime(t)-began)
			runtime.ReadMemStats(&after)
			if err == nil && name != "HAVIPs" {
				t.Errorf("%s: taken", name)
			}
			if least < 100*time.Millisecond {
				break
			}
		}
		used := after.TotalAlloc - before.TotalAlloc
		if os.Getenv("HAVIP_SHOW") != "" {
			began := processorTime(t)
			_, _, err := Decode(data)
			t.Logf("%-28s %6.0f ms CPU %6.0f ms again %5d MB  %.90v", name, float64(least)/1e6, float64(processorTime(t)-began)/1e6, used>>20, err)
		}
		if used > most*uint64(size) || least > 20*ordinary {
			t.Errorf("%s: %s, an ordinary file takes %s; and %d bytes for each byte", name, least, ordinary, used/uint64(size))
		}
	}
}

// processorTime is what this process has used: a busy machine changes it less than the time of day.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
