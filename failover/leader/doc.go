// Package leader is what the leader decides: which sessions are over, and where each HAVIP is.
package leader
