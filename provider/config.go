package provider

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Config is the block `provider` of the agent's configuration file. Each node has its own, because
// credentials and the metadata service belong to a host.
type Config struct {
	// Kind is tencent, aws or exec; "" = none.
	Kind string `yaml:"kind,omitempty"`
	// Poll is how often the leader looks, 1s to 1h; 0 = DefaultPoll.
	Poll time.Duration `yaml:"poll,omitempty"`
	// Settle is how long the cloud may take to follow an announcement before it counts as drift, at most 10m; 0 =
	// DefaultSettle.
	Settle  time.Duration `yaml:"settle,omitempty"`
	Tencent Tencent       `yaml:"tencent,omitempty"`
	AWS     AWS           `yaml:"aws,omitempty"`
	Exec    Exec          `yaml:"exec,omitempty"`
}

// Tencent is the sub-block `tencent`.
type Tencent struct {
	// Region such as ap-guangzhou; "" = the one that the metadata service names.
	Region string `yaml:"region,omitempty"`
	// VPC is the cloud's id of the VPC that is looked at; "" = that of this host.
	VPC string `yaml:"vpc,omitempty"`
	// Endpoint is the API, https://HOST; "" = https://vpc.tencentcloudapi.com. Plain http is taken for loopback only.
	Endpoint string `yaml:"endpoint,omitempty"`
	// CredentialsFile has `secret_id` and `secret_key` (and `token`), readable by its owner alone.
	CredentialsFile string `yaml:"credentials_file,omitempty"`
	// Role is that of the instance whose credentials the metadata service gives; "" = the one it lists.
	Role string `yaml:"role,omitempty"`
	// Metadata is the base of the metadata service; "" = http://metadata.tencentyun.com.
	Metadata string `yaml:"metadata,omitempty"`
}

// Kinds of providers.
const (
	KindTencent = "tencent"
	KindAWS     = "aws"
	KindExec    = "exec"
)

// Bounds of a Config.
const (
	DefaultPoll   = 10 * time.Second
	MinPoll       = time.Second
	MaxPoll       = time.Hour
	DefaultSettle = 10 * time.Second // the vendor's figure for a move of a HAVIP
	MaxSettle     = 10 * time.Minute
)

// kinds are those that Check takes.
var kinds = []string{KindTencent, KindAWS, KindExec}

// Check says what is wrong with the block.
func (c Config) Check() error {
	if c.Kind != "" && !slices.Contains(kinds, c.Kind) {
		return fmt.Errorf("provider: kind: %q is no provider: %s", c.Kind, strings.Join(kinds, ", "))
	}
	if c.Poll != 0 && (c.Poll < MinPoll || c.Poll > MaxPoll) {
		return fmt.Errorf("provider: poll: %v is not between %v and %v", c.Poll, MinPoll, MaxPoll)
	}
	if c.Settle < 0 || c.Settle > MaxSettle {
		return fmt.Errorf("provider: settle: %v is not between 0s and %v", c.Settle, MaxSettle)
	}
	return c.Tencent.check()
}

func (t Tencent) check() error {
	for _, u := range []struct{ key, value string }{{"endpoint", t.Endpoint}, {"metadata", t.Metadata}} {
		if u.value == "" {
			continue
		}
		p, err := url.Parse(u.value)
		if err != nil || p.Host == "" || p.Scheme != "http" && p.Scheme != "https" || p.User != nil {
			return fmt.Errorf("provider: tencent: %s: %q is no http or https address", u.key, u.value)
		}
	}
	return nil
}

// PollEvery is Poll with its default.
func (c Config) PollEvery() time.Duration {
	if c.Poll == 0 {
		return DefaultPoll
	}
	return c.Poll
}

// SettleFor is Settle with its default.
func (c Config) SettleFor() time.Duration {
	if c.Settle == 0 {
		return DefaultSettle
	}
	return c.Settle
}
