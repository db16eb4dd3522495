package browsertest

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"havip-cluster/jepsen/fakecloud"
)

const (
	cloudPort = 18080
	cloudPoll = time.Second
	cloudEIP  = "198.51.100.7"
)

// inCloud makes the hosts of a bed instances of a cloud: each finds the API and the metadata service on its own loopback,
// and the fabric sees what is announced on the switch. Each instance has a primary ENI and another one.
func inCloud(t *testing.T) (*bed, *fakecloud.Cloud) {
	t.Helper()
	var cloud *fakecloud.Cloud
	b := newBed(t, func(b *bed) { cloud = b.cloud() })
	b.cli(1, "cluster", "set", "provider=tencent")
	return b, cloud
}

func (b *bed) cloud() *fakecloud.Cloud {
	b.t.Helper()
	c := fakecloud.Config{
		MACUpper: true, TaskMS: 200, EIPs: []string{cloudEIP},
		Subnets: []fakecloud.Subnet{{ID: "subnet-lab", CIDR: netip.PrefixFrom(b.lab.Address(100), 24).Masked()}},
	}
	for i, h := range b.lab.Nodes() {
		for n := range 2 {
			c.ENIs = append(c.ENIs, fakecloud.ENI{
				ID: fmt.Sprintf("eni-lab%d%d", i+1, n), MAC: h.MAC(n).String(), Subnet: "subnet-lab", Instance: fmt.Sprintf("ins-lab%d", i+1), Primary: n == 0, Addresses: []netip.Addr{h.IP(n)},
			})
		}
	}
	cloud := fakecloud.New(c)
	for i, h := range b.lab.Nodes() {
		var l net.Listener
		b.must(h.Do(func() (err error) {
			l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", cloudPort))
			return err
		}))
		s := &http.Server{Handler: cloud.Handler(fmt.Sprintf("ins-lab%d", i+1)), ReadHeaderTimeout: time.Second}
		b.t.Cleanup(func() { _ = s.Close() })
		go func() { _ = s.Serve(l) }()
	}
	b.fabric(cloud)
	config := filepath.Join(b.cluster.Dir, "agent.yaml")
	text := fmt.Sprintf("provider:\n  kind: tencent\n  poll: %s\n  settle: 1s\n  tencent:\n    endpoint: http://127.0.0.1:%d\n    metadata: http://127.0.0.1:%d\n", cloudPoll, cloudPort, cloudPort)
	b.must(os.WriteFile(config, []byte(text), 0o600))
	b.cluster.AgentArgs = append(b.cluster.AgentArgs, "--config", config)
	return cloud
}

// fabric hands the cloud what is announced.
func (b *bed) fabric(cloud *fakecloud.Cloud) {
	b.t.Helper()
	var stop func() error
	h := b.lab.Client()
	b.must(h.Do(func() (err error) { stop, err = cloud.Hear(h.Device(0), nil); return err }))
	b.t.Cleanup(func() { _ = stop() })
}
