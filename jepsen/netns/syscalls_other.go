//go:build !amd64 && !arm64

package netns

// The numbers of other architectures are not kept: a filter refuses its first name.
const (
	auditArch      = 0
	syscallNumbers = ""
)
