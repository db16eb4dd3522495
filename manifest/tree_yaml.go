package manifest

import (
	"github.com/goccy/go-yaml/ast"

	"havip-cluster/fsm"
)

// grower turns the parser's nodes into a tree.
type grower struct {
	anchors map[string]*tree
	open    map[string]bool // anchors whose value is being read: an alias in it is a cycle
	aliases int
	count   int
}

func grow(file *ast.File) (*tree, error) {
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if directive, ok := doc.Body.(*ast.DirectiveNode); ok {
			return nil, fault(placeOfToken(directive.GetToken()), "", fsm.CodeUnsupported, "directives (%%) are not used here; drop the line")
		}
		if body != nil {
			return nil, fault(placeOfToken(doc.Body.GetToken()), "", CodeSyntax, "more than one document; a file holds one")
		}
		body = doc.Body
	}
	if body == nil {
		return nil, fault(Place{1, 1}, "", fsm.CodeMissing, "the file is empty but for comments; the least is `version: %d`", Version)
	}
	g := &grower{anchors: map[string]*tree{}, open: map[string]bool{}}
	root, err := g.value(body, 1)
	if err == nil {
		root.size = g.count
	}
	return root, err
}

func (g *grower) value(n ast.Node, depth int) (*tree, error) {
	if n == nil {
		return &tree{shape: shapeNull}, nil
	}
	t := &tree{Place: placeOfToken(n.GetToken())}
	if g.count++; depth > MaxDepth || g.count > MaxNodes {
		return nil, fault(t.Place, "", fsm.CodeLimit, "nested deeper than %d, or more than %d values", MaxDepth, MaxNodes)
	}
	switch n := n.(type) {
	case *ast.NullNode:
		t.shape = shapeNull
	case *ast.BoolNode:
		t.shape, t.text = shapeBool, "false"
		if n.Value {
			t.text = "true"
		}
	case *ast.IntegerNode:
		t.shape, t.text = shapeInt, n.Token.Value
	case *ast.FloatNode:
		t.shape, t.text = shapeFloat, n.Token.Value
	case *ast.InfinityNode, *ast.NanNode:
		t.shape, t.text = shapeFloat, n.GetToken().Value
	case *ast.StringNode:
		t.shape, t.text = shapeText, n.Value
	case *ast.LiteralNode:
		t.shape, t.text = shapeText, n.Value.Value
	case *ast.SequenceNode:
		return t, g.list(t, n.Values, depth)
	case *ast.MappingNode:
		return t, g.mapping(t, n.Values, depth)
	case *ast.MappingValueNode:
		return t, g.mapping(t, []*ast.MappingValueNode{n}, depth)
	case *ast.AnchorNode:
		return g.anchor(n, depth)
	case *ast.AliasNode:
		return g.alias(n, t.Place)
	case *ast.TagNode:
		return nil, fault(t.Place, "", fsm.CodeUnsupported, "tags such as %s are not used here; write the plain value", n.Start.Value)
	default:
		return nil, fault(t.Place, "", fsm.CodeUnsupported, "%s is not used here", n.Type())
	}
	return t, nil
}

func (g *grower) list(t *tree, values []ast.Node, depth int) error {
	t.shape = shapeList
	for _, v := range values {
		item, err := g.value(v, depth+1)
		if err != nil {
			return err
		}
		t.items = append(t.items, item)
	}
	return nil
}

func (g *grower) mapping(t *tree, values []*ast.MappingValueNode, depth int) error {
	t.shape = shapeMapping
	for i, v := range values {
		if _, merge := v.Key.(*ast.MergeKeyNode); merge {
			return fault(placeOfToken(v.Key.GetToken()), "", fsm.CodeUnsupported, "merge keys (<<) are not used here; write the values out")
		}
		var keyNode ast.Node = v.Key
		if explicit, ok := v.Key.(*ast.MappingKeyNode); ok {
			keyNode = explicit.Value
		}
		key, err := g.value(keyNode, depth+1)
		if err != nil {
			return err
		}
		if i == 0 && !(t.Line == key.Line && t.Col < key.Col) {
			t.Place = key.Place // the token of a block mapping is its first colon
		}
		item, err := g.value(v.Value, depth+1)
		if err != nil {
			return err
		}
		if item.Line == 0 {
			item.Place = key.Place
		}
		t.keys, t.items = append(t.keys, key), append(t.items, item)
	}
	return nil
}

func (g *grower) anchor(n *ast.AnchorNode, depth int) (*tree, error) {
	name := n.Name.GetToken().Value
	g.open[name] = true
	t, err := g.value(n.Value, depth)
	delete(g.open, name)
	g.anchors[name] = t
	return t, err
}

func (g *grower) alias(n *ast.AliasNode, place Place) (*tree, error) {
	name := n.Value.GetToken().Value
	if g.aliases++; g.aliases > MaxAliases {
		return nil, fault(place, "", fsm.CodeLimit, "more than %d aliases", MaxAliases)
	}
	if g.open[name] {
		return nil, fault(place, "", CodeSyntax, "*%s stands within &%s: a cycle", name, name)
	}
	t, ok := g.anchors[name]
	if !ok {
		return nil, fault(place, "", CodeSyntax, "no &%s stands before *%s", name, name)
	}
	return t, nil
}
