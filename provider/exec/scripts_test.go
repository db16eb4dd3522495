package exec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"havip-cluster/provider"
)

// The example scripts of the docs are run against stand-ins of the tools that they call, which keep
// the cloud's state in a file and note each call.
const fakeCurl = `#!/bin/sh
echo "curl $*" >> "$STATE.log"
for last; do :; done
case "$last" in
*/latest/api/token) echo token ;;
*/interface-id) echo eni-mine ;;
*/local-ipv4s) echo 10.0.0.11; [ "$(cat "$STATE")" = eni-mine ] && echo 10.0.0.100 ;;
*/instance-id) echo i-1 ;;
*/failover/*)
	case "$*" in *POST*) echo 192.0.2.1 > "$STATE" ;; esac
	echo "{\"failover\":{\"active_server_ip\":\"$(cat "$STATE")\"}}" ;;
*) exit 22 ;;
esac
`

const fakeAWS = `#!/bin/sh
echo "aws $*" >> "$STATE.log"
case "$*" in
*describe-route-tables*) cat "$STATE" ;;
*) echo eni-mine > "$STATE" ;;
esac
`

func TestScripts(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		call string // that the claim makes
	}{
		"aws-assign.sh": {nil, "aws ec2 assign-private-ip-addresses --network-interface-id eni-mine --private-ip-addresses 10.0.0.100 --allow-reassignment"},
		"aws-route.sh":  {[]string{"rtb-1,rtb-2"}, "aws ec2 replace-route --route-table-id rtb-2 --destination-cidr-block 10.0.0.100/32 --network-interface-id eni-mine"},
		"hetzner.sh":    {[]string{"/etc/netrc", "192.0.2.1"}, "-X POST -d active_server_ip=192.0.2.1 https://robot-ws.your-server.de/failover/10.0.0.100"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for tool, text := range map[string]string{"curl": fakeCurl, "aws": fakeAWS} {
				write(t, filepath.Join(dir, tool), text)
			}
			state := filepath.Join(dir, "state")
			if err := os.WriteFile(state, []byte("another\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			ask := func(call provider.CallKind) Answer {
				t.Helper()
				in, err := json.Marshal(request(call, claim, time.Second))
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command("/bin/sh", append([]string{"../../docs/providers/" + name}, c.args...)...)
				cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "STATE=" + state}
				var errs bytes.Buffer
				cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &errs
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%s: %v: %s", call, err, errs.String())
				}
				a, err := parse(out)
				if err != nil {
					t.Fatalf("%s: %v in %s", call, err, out)
				}
				return a
			}
			here := func(want bool) {
				t.Helper()
				if a := ask(provider.CallWhere); a.Here == nil || *a.Here != want {
					t.Errorf("describe: %+v, want here %v", a, want)
				}
			}
			here(false)
			ask(provider.CallClaim)
			here(true)
			ask(provider.CallRelease)
			ask(CallTest)
			calls, err := os.ReadFile(state + ".log")
			if err != nil || !strings.Contains(string(calls), c.call) {
				t.Errorf("%s is not among its calls, %v:\n%s", fmt.Sprintf("%q", c.call), err, calls)
			}
		})
	}
}
