package provider

import (
	"fmt"
	"net/url"
	"path/filepath"
	"time"
)

// DefaultPrograms is where root puts the program of the provider exec.
const DefaultPrograms = "/etc/havip-cluster/provider.d"

// Bounds of a call of a program.
const (
	DefaultCall = 10 * time.Second
	MinCall     = 100 * time.Millisecond
	MaxCall     = 15 * time.Second
)

// Exec is the sub-block `exec`: a program of the operator's that makes the calls.
type Exec struct {
	// Program is below the directory, which root alone may change.
	Program string `yaml:"program,omitempty"`
	// Directory is an absolute path; "" = DefaultPrograms.
	Directory string   `yaml:"directory,omitempty"`
	Args      []string `yaml:"args,omitempty"`
	// User runs it; "" = nobody.
	User string `yaml:"user,omitempty"`
	// Timeout bounds one call, MinCall to MaxCall; 0 = DefaultCall.
	Timeout time.Duration `yaml:"timeout,omitempty"`
}

// Check says what is wrong with the sub-block.
func (e Exec) Check() error {
	switch {
	case e.Program == "":
		return fmt.Errorf("provider: exec: program: say which program of %s makes the calls", DefaultPrograms)
	case !filepath.IsLocal(e.Program):
		return fmt.Errorf("provider: exec: program: %q is not below the directory: put the program, or a link to it, there", e.Program)
	case e.Directory != "" && !filepath.IsAbs(e.Directory):
		return fmt.Errorf("provider: exec: directory: %q is no absolute path", e.Directory)
	case e.Timeout != 0 && (e.Timeout < MinCall || e.Timeout > MaxCall):
		return fmt.Errorf("provider: exec: timeout: %v is not between %v and %v", e.Timeout, MinCall, MaxCall)
	}
	return nil
}

// AWS is the sub-block `aws`. All of it may be left out on an instance with a role.
type AWS struct {
	// Region such as eu-central-1; "" = that of this instance.
	Region string `yaml:"region,omitempty"`
	// Endpoint is the EC2 API; "" = https://ec2.REGION.amazonaws.com. Plain http is taken for loopback only.
	Endpoint string `yaml:"endpoint,omitempty"`
	// Metadata is the base of the instance's metadata service; "" = http://169.254.169.254.
	Metadata string `yaml:"metadata,omitempty"`
	// Role is that of the instance whose credentials are used; "" = the one it lists.
	Role string `yaml:"role,omitempty"`
}

// Check says what is wrong with the sub-block.
func (a AWS) Check() error {
	for _, u := range []struct{ key, value string }{{"endpoint", a.Endpoint}, {"metadata", a.Metadata}} {
		if u.value == "" {
			continue
		}
		p, err := url.Parse(u.value)
		if err != nil || p.Host == "" || p.Scheme != "http" && p.Scheme != "https" || p.User != nil {
			return fmt.Errorf("provider: aws: %s: %q is no http or https address", u.key, u.value)
		}
		if host := p.Hostname(); u.key == "endpoint" && p.Scheme == "http" && host != "127.0.0.1" && host != "::1" && host != "localhost" {
			return fmt.Errorf("provider: aws: endpoint: %q is not encrypted; use https", u.value)
		}
	}
	return nil
}
