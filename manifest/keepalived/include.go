package keepalived

import (
	"path/filepath"
	"strings"

	"havip-cluster/fsm"
	"havip-cluster/manifest"
)

// maxAlternatives bounds what the braces of one pattern may stand for.
const maxAlternatives = 64

// include recognises the include keywords; keepalived looks for them after conditions and
// parameters.
func include(line string) (key, pattern string, found bool) {
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return "", "", false
	}
	switch key = fields[0]; key {
	case "include", "includer", "includem", "includew", "includeb", "includea":
		return key, strings.Trim(strings.TrimSpace(strings.TrimPrefix(line, key)), `"'`), true
	}
	return "", "", false
}

// include follows one include. What cannot be followed is a fault of that line.
func (p *parser) include(at place, key, pattern string) error {
	option := key + " " + pattern
	switch {
	case pattern == "":
		p.add(manifest.Wrong, at, key, "names no file")
		return nil
	case p.files == nil:
		p.lose(at, option, "includes cannot be followed here; give the included files' text in one file")
		return nil
	case len(p.reading) > MaxIncludeDepth:
		return at.refuse(fsm.CodeLimit, "includes nested deeper than %d", MaxIncludeDepth)
	}
	alternatives := p.alternatives(pattern)
	if len(alternatives) > maxAlternatives {
		return at.refuse(fsm.CodeLimit, "%s stands for more than %d patterns", option, maxAlternatives)
	}
	var names, missing []string
	for _, one := range alternatives {
		found, err := p.glob(at, one)
		if err != nil {
			p.lose(at, option, "%v", err)
			return nil
		}
		if len(found) == 0 {
			missing = append(missing, one)
		}
		names = append(names, found...)
	}
	switch {
	case len(names) == 0:
		p.lose(at, option, "no file matches here, and keepalived on the node may have some: run the import there, or copy what is included and give the folder that stands for / by --root")
	case len(missing) > 0:
		p.add(manifest.LeftOut, at, option, "no file matches %s here", strings.Join(missing, ", "))
	}
	for _, name := range names {
		if err := p.included(at, option, name); err != nil {
			return err
		}
	}
	return nil
}

// included reads one file of an include.
func (p *parser) included(at place, option, name string) error {
	for _, open := range p.reading {
		if open == filepath.Clean(name) {
			p.lose(at, option, "%s includes itself: %s; it is read once", name, strings.Join(append(p.reading, name), " -> "))
			return nil
		}
	}
	data, err := p.files.ReadFile(name)
	if err != nil {
		p.lose(at, option, "cannot be read: %v", err)
		return nil
	}
	if len(strings.TrimSpace(string(data))) == 0 {
		return nil
	}
	src := manifest.Source{Name: name, Data: data}
	if _, _, err := manifest.ForeignText(src); err != nil {
		p.lose(at, option, "cannot be read: %v", err)
		return nil
	}
	return p.file(src)
}

// glob lists what a pattern without braces matches. An absolute one is looked for below the
// roots, where some are given; another beside the file that names it, then below each root
// as in /etc/keepalived and at the root itself.
func (p *parser) glob(at place, pattern string) ([]string, error) {
	var places []string
	switch {
	case !filepath.IsAbs(pattern):
		places = append(places, filepath.Join(filepath.Dir(at.file), pattern))
		for _, root := range p.roots {
			places = append(places, filepath.Join(root, filepath.Join("/etc/keepalived", pattern)), filepath.Join(root, filepath.Join("/", pattern)))
		}
	case len(p.roots) == 0:
		places = append(places, pattern)
	default:
		for _, root := range p.roots {
			places = append(places, filepath.Join(root, filepath.Clean(pattern)))
		}
	}
	for _, one := range places {
		if names, err := p.files.Glob(one); err != nil || len(names) > 0 {
			return names, err
		}
	}
	return nil, nil
}

// alternatives resolves the braces of a pattern as glob(3) does with GLOB_BRACE.
func (p *parser) alternatives(pattern string) []string {
	open := strings.IndexByte(pattern, '{')
	if open < 0 {
		return []string{pattern}
	}
	depth, end := 0, -1
	for i := open; i < len(pattern) && end < 0; i++ {
		switch pattern[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				end = i
			}
		}
	}
	if end < 0 {
		return []string{pattern}
	}
	var out []string
	for _, one := range splitList(pattern[open+1 : end]) {
		if len(out) > maxAlternatives {
			break
		}
		out = append(out, p.alternatives(pattern[:open]+one+pattern[end+1:])...)
	}
	return out
}
