// Package wire is the datagrams by which the rooms of failover speak with those of other nodes: their
// format, who may say which, and how they are sent.
package wire
