// Package agent joins the parts of one running node.
package agent
