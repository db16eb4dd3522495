// Package webhook tells programs outside the cluster of its events: one POST for each, signed, in
// order, repeated until it is taken. The leader sends; how far each webhook has come is in the log,
// so the next leader goes on there. Every event is sent at least once, and has an id.
package webhook
