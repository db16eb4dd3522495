// Package plane renews and answers leases in a small process with real-time priority, the guard, so that neither a
// busy host nor the work of the agent ends a lease.
package plane
