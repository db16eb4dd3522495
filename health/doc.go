// Package health runs the checks of services on one node and says what they come to.
//
// core.go is pure: runs and a clock in, passing, failing or unknown out. runner.go is the shell
// around it, one goroutine for each check; the other files are what one run does. DESIGN.md has
// the decisions.
package health
