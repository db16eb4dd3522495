package aws

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"havip-cluster/provider"
)

// The MAC and the interface of the instance that amazon-ec2-metadata-mock plays; the MAC is part of its paths.
const (
	mockMAC = "0e:49:61:0f:c3:11"
	mockENI = "eni-0f95d3625f5c521cc"
)

// Amazon's own stand-in of the metadata service, with tokens demanded (IMDSv2): a claim is not taken for done before the
// service lists the address, and is after it. The service begins anew in between, so that no token is good any more.
func TestAgainstAmazonsMetadataMock(t *testing.T) {
	binary := os.Getenv("HAVIP_METADATA_MOCK")
	if binary == "" {
		t.Skip("HAVIP_METADATA_MOCK names no amazon-ec2-metadata-mock: `make aws-mock` builds one")
	}
	f := newFake(t)
	f.macs[mockMAC], f.enis[mockENI] = mockENI, []string{"172.16.34.43"}
	port := freePort(t)
	stop := runMock(t, binary, port, f.secret, "172.16.34.43")
	base := "http://127.0.0.1:" + port
	res, err := http.Get(base + "/latest/meta-data/mac")
	if err != nil || res.StatusCode != http.StatusUnauthorized {
		t.Fatalf("the mock demands no token: %v, %v", res, err)
	}
	_ = res.Body.Close()

	p, ctx := f.provider(func(c *provider.AWS) { c.Metadata = base }), context.Background()
	self, err := p.Test(ctx)
	if err != nil || self.Region != region || self.Credentials != "role" || self.VPC != "vpc-d295a6a7" || !strings.HasPrefix(self.Instance, "i-") {
		t.Fatalf("%+v, %v", self, err)
	}
	c := provider.Claim{HAVIP: "havip-1", Name: "web", Address: netip.MustParseAddr("172.16.34.100"), MAC: mockMAC, Epoch: 3}
	if err := p.Claim(ctx, c); err != nil {
		t.Fatal(err)
	}
	if place, err := p.Where(ctx, c); err != nil || place.Here {
		t.Errorf("before the service lists it: %+v, %v", place, err)
	}
	stop()
	runMock(t, binary, port, f.secret, "172.16.34.43\n172.16.34.100")
	if place, err := p.Where(ctx, c); err != nil || !place.Here {
		t.Errorf("after it: %+v, %v", place, err)
	}
	c.MAC = macA
	if _, err := p.Where(ctx, c); err == nil || !strings.Contains(err.Error(), "no interface with the MAC") {
		t.Errorf("a MAC of another instance: %v", err)
	}
}

// runMock starts it for an instance whose interface has these addresses, one a line; stop ends it and waits.
func runMock(t *testing.T, binary, port, secret, addresses string) (stop func()) {
	t.Helper()
	config, err := json.Marshal(map[string]any{"metadata": map[string]any{"values": map[string]any{
		"placement-region": region, "placement-availability-zone": region + "a", "mac-local-ipv4s": addresses,
		"iam-security-credentials": map[string]string{
			"Code": "Success", "AccessKeyId": "AKID", "SecretAccessKey": secret, "Token": "session", "Type": "AWS-HMAC",
			"LastUpdated": time.Now().UTC().Format(time.RFC3339), "Expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		},
	}}})
	dir := t.TempDir()
	path := filepath.Join(dir, "mock.json")
	if err == nil {
		err = os.WriteFile(path, config, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "--imdsv2", "--hostname", "127.0.0.1", "--port", port, "--config-file", path)
	cmd.Env, cmd.SysProcAttr = append(os.Environ(), "HOME="+dir), &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			_ = conn.Close()
			return stop
		}
	}
	stop()
	t.Fatalf("it does not listen: %s", said.String())
	return nil
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}
