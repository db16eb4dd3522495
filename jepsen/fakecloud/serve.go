package fakecloud

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// bodyMax bounds a request, in bytes.
const bodyMax = 1 << 20

// refusal is an error of the API.
type refusal struct{ code, message string }

func refuse(code, format string, args ...any) *refusal {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

// Handler serves the API at POST / and, for the instance that asks, the metadata service below /latest/meta-data/. A
// real cloud tells instances apart by where a request comes from; here each has a Handler of its own.
func (c *Cloud) Handler(instance string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		f := c.fault
		c.mu.Unlock()
		if f.Down {
			panic(http.ErrAbortHandler)
		}
		if f.SlowMS > 0 {
			select {
			case <-r.Context().Done():
			case <-time.After(time.Duration(f.SlowMS) * time.Millisecond):
			}
		}
		if path, ok := strings.CutPrefix(r.URL.Path, "/latest/meta-data/"); ok {
			c.metadata(w, instance, path)
			return
		}
		c.api(w, r, f)
	})
}

func (c *Cloud) api(w http.ResponseWriter, r *http.Request, f Fault) {
	body, err := io.ReadAll(io.LimitReader(r.Body, bodyMax))
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/" {
		http.Error(w, "POST /", http.StatusNotFound)
		return
	}
	if f.Garbage {
		_, _ = w.Write([]byte("<html>502</html>"))
		return
	}
	if f.Endless {
		for {
			if _, err := w.Write(bytes.Repeat([]byte(" "), 64<<10)); err != nil {
				return
			}
		}
	}
	action, request := r.Header.Get("X-TC-Action"), random(16)
	out, no := c.answer(r, action, request, body)
	if f.LoseOnce == action && no == nil {
		c.SetFault(Fault{})
		panic(http.ErrAbortHandler)
	}
	response := map[string]any{"RequestId": request}
	if no != nil {
		response["Error"] = map[string]string{"Code": no.code, "Message": no.message}
	}
	for name, v := range out {
		response[name] = v
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"Response": response})
}

// answer does one action.
func (c *Cloud) answer(r *http.Request, action, id string, body []byte) (out map[string]any, no *refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	defer func() {
		call := Call{Action: action, At: c.now()}
		var t struct{ ClientToken string }
		if json.Unmarshal(body, &t) == nil {
			call.Token = t.ClientToken
		}
		if no != nil {
			call.Code = no.code
		}
		if len(c.calls) < callsMax {
			c.calls = append(c.calls, call)
		}
	}()
	if c.fault.Throttle {
		return nil, refuse("RequestLimitExceeded", "Your current request times equals to `20` in a second, which exceeds the frequency limit `20` for a second.")
	}
	if c.fault.Internal {
		return nil, refuse("InternalError", "An internal error has occurred.")
	}
	if code, message := c.verify(r, body); code != "" {
		return nil, refuse(code, "%s", message)
	}
	if v := r.Header.Get("X-TC-Version"); v != "2017-03-12" {
		return nil, refuse("NoSuchVersion", "there is no version %q", v)
	}
	if v := r.Header.Get("X-TC-Region"); v != c.cfg.Region {
		return nil, refuse("UnsupportedRegion", "there is no region %q", v)
	}
	do, known := actions[action]
	if !known {
		return nil, refuse("InvalidAction", "there is no action %q", action)
	}
	if code := c.fault.Refuse[action]; code != "" {
		return nil, refuse(code, "the fault says so")
	}
	return do(c, request{id, bytes.TrimSpace(body)})
}

// request is one call of an action, with its id and the parameters as JSON.
type request struct {
	id   string
	body []byte
}

// actions are those that are implemented.
var actions = map[string]func(*Cloud, request) (map[string]any, *refusal){
	"DescribeHaVips":             with((*Cloud).describeHAVIPs),
	"CreateHaVip":                with((*Cloud).createHAVIP),
	"DeleteHaVip":                with((*Cloud).deleteHAVIP),
	"ModifyHaVipAttribute":       with((*Cloud).modifyHAVIP),
	"AssociateHaVipInstance":     with((*Cloud).associate),
	"DisassociateHaVipInstance":  with((*Cloud).disassociate),
	"HaVipAssociateAddressIp":    with((*Cloud).bindEIP),
	"HaVipDisassociateAddressIp": with((*Cloud).unbindEIP),
	"DescribeVpcTaskResult":      with((*Cloud).taskResult),
	"DescribeNetworkInterfaces":  with((*Cloud).describeENIs),
}

// with reads the parameters of an action before it is done.
func with[P any](do func(*Cloud, P, request) (map[string]any, *refusal)) func(*Cloud, request) (map[string]any, *refusal) {
	return func(c *Cloud, r request) (map[string]any, *refusal) {
		var p P
		if no := decode(r.body, &p); no != nil {
			return nil, no
		}
		return do(c, p, r)
	}
}

// decode reads parameters as the API does: what it does not know is refused.
func decode(body []byte, into any) *refusal {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		if strings.Contains(err.Error(), "unknown field") {
			return refuse("UnknownParameter", "%v", err)
		}
		return refuse("InvalidParameter", "%v", err)
	}
	return nil
}

// metadata answers as the service of one instance.
func (c *Cloud) metadata(w http.ResponseWriter, instance, path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text, found := c.meta(instance, path)
	if !found {
		http.NotFound(w, nil)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, text)
}

func (c *Cloud) meta(instance, path string) (string, bool) {
	var own []ENI
	for _, e := range c.cfg.ENIs {
		if e.Instance == instance {
			own = append(own, e)
		}
	}
	switch path {
	case "instance-id":
		return instance, true
	case "placement/region":
		return c.cfg.Region, true
	case "placement/zone":
		return c.cfg.Zone, true
	case "cam/security-credentials/":
		return c.cfg.Role, c.cfg.Role != "-"
	case "cam/security-credentials/" + c.cfg.Role:
		return c.issue(), true
	case "mac", "network/interfaces/macs/":
		var list []string
		for _, e := range own {
			if path != "mac" {
				list = append(list, c.mac(e)+"/")
			} else if e.Primary {
				return c.mac(e), true
			}
		}
		return strings.Join(list, "\n"), len(list) > 0
	}
	for _, e := range own {
		field, ok := strings.CutPrefix(path, "network/interfaces/macs/"+c.mac(e)+"/")
		if !ok {
			continue
		}
		switch field {
		case "mac":
			return c.mac(e), true
		case "vpc-id":
			return c.cfg.VPC, true
		case "subnet-id":
			return e.Subnet, true
		case "primary-local-ipv4":
			if len(e.Addresses) > 0 {
				return e.Addresses[0].String(), true
			}
		case "local-ipv4s/":
			var list []string
			for _, a := range e.Addresses {
				list = append(list, a.String()+"/")
			}
			return strings.Join(list, "\n"), true
		}
	}
	return "", false
}

func (c *Cloud) mac(e ENI) string {
	if c.cfg.MACUpper {
		return strings.ToUpper(e.MAC)
	}
	return e.MAC
}

// issue makes credentials of the role.
func (c *Cloud) issue() string {
	id, i := "AKIDrole"+random(8), issued{"key" + random(16), "token" + random(32), c.now().Add(time.Duration(c.cfg.RoleLife) * time.Second)}
	c.issued[id] = i
	b, _ := json.Marshal(map[string]any{ // texts and a number: it does not fail
		"TmpSecretId": id, "TmpSecretKey": i.key, "Token": i.token, "ExpiredTime": i.ends.Unix(), "Expiration": i.ends.UTC(), "Code": "Success",
	})
	return string(b)
}
