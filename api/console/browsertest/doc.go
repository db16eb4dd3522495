// Package browsertest looks at the console with a real browser, on a real cluster: `make console-test`. It
// is a module of its own, because a browser's driver is nothing that the product should name.
package browsertest
