package aws

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is EC2 and the metadata services of its instances, of which each test sees one. It checks
// signatures by itself and moves addresses later than it answers, as the reference says.
type fake struct {
	t testing.TB

	mu      sync.Mutex
	enis    map[string][]string // private addresses, by id
	macs    map[string]string   // ids, by MAC
	delay   time.Duration       // until an address is where it was assigned
	refuse  []string            // codes of the next answers, "" = none
	actions []string
	tokens  map[string]bool
	secret  string
	expires time.Time
	keys    int               // how often credentials were given
	publics map[string]string // elastic addresses, by private one
	perPage int               // interfaces of a page; 0: all

	api, meta *httptest.Server
}

const (
	macA   = "02:00:00:00:00:0a"
	macB   = "02:00:00:00:00:0b"
	region = "eu-central-1"
)

func newFake(t testing.TB) *fake {
	f := &fake{
		t: t, enis: map[string][]string{"eni-a": {"10.0.0.11"}, "eni-b": {"10.0.0.12", "10.0.0.100"}},
		macs: map[string]string{macA: "eni-a", macB: "eni-b"}, tokens: map[string]bool{}, secret: "wJalrXUtnFEMI", expires: time.Now().Add(time.Hour),
	}
	f.api, f.meta = httptest.NewServer(http.HandlerFunc(f.ec2)), httptest.NewServer(http.HandlerFunc(f.imds))
	t.Cleanup(f.api.Close)
	t.Cleanup(f.meta.Close)
	return f
}

// statuses of codes (EC2 API reference, "Error codes"); 400 for others.
var statuses = map[string]int{"RequestLimitExceeded": 503, "InternalError": 500, "Unavailable": 503, "AuthFailure": 401, "UnauthorizedOperation": 403}

func (f *fake) ec2(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	refuse := func(code, message string) {
		status := statuses[code]
		if status == 0 {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>req-1</RequestID></Response>`, code, message)
	}
	if why := f.signed(r, body); why != "" {
		refuse("AuthFailure", why)
		return
	}
	q, err := url.ParseQuery(string(body))
	if err != nil || q.Get("Version") != version {
		refuse("InvalidParameterValue", "version")
		return
	}
	f.actions = append(f.actions, q.Get("Action"))
	if len(f.refuse) > 0 {
		code := f.refuse[0]
		f.refuse = f.refuse[1:]
		if code == "not xml" {
			_, _ = io.WriteString(w, "<html>")
			return
		}
		if code != "" {
			refuse(code, "as the test says")
			return
		}
	}
	switch q.Get("Action") {
	case "AssignPrivateIpAddresses":
		f.assign(w, q, refuse)
	case "DescribeNetworkInterfaces":
		f.describe(w, q, refuse)
	default:
		refuse("InvalidAction", q.Get("Action"))
	}
}

func (f *fake) assign(w http.ResponseWriter, q url.Values, refuse func(code, message string)) {
	eni, ip := q.Get("NetworkInterfaceId"), q.Get("PrivateIpAddress.1")
	if _, ok := f.enis[eni]; !ok {
		refuse("InvalidNetworkInterfaceID.NotFound", eni)
		return
	}
	for other, list := range f.enis {
		if other != eni && slices.Contains(list, ip) && q.Get("AllowReassignment") != "true" {
			refuse("InvalidParameterValue", "the address is in use")
			return
		}
	}
	move := func() {
		for id := range f.enis {
			f.enis[id] = slices.DeleteFunc(f.enis[id], func(s string) bool { return s == ip })
		}
		f.enis[eni] = append(f.enis[eni], ip)
	}
	if f.delay == 0 {
		move()
	} else {
		time.AfterFunc(f.delay, func() { f.mu.Lock(); defer f.mu.Unlock(); move() })
	}
	fmt.Fprintf(w, `<AssignPrivateIpAddressesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>req-3</requestId><networkInterfaceId>%s</networkInterfaceId><return>true</return></AssignPrivateIpAddressesResponse>`, eni)
}

// describe answers about interfaces: by id, or by filters, of which all have to hold.
func (f *fake) describe(w http.ResponseWriter, q url.Values, refuse func(code, message string)) {
	var match []string
	for _, id := range slices.Sorted(maps.Keys(f.enis)) {
		mac := ""
		for m, of := range f.macs {
			if of == id {
				mac = m
			}
		}
		is := map[string][]string{"vpc-id": {"vpc-1"}, "mac-address": {mac}, "addresses.private-ip-address": f.enis[id]}
		take := q.Get("NetworkInterfaceId.1") == "" || q.Get("NetworkInterfaceId.1") == id
		for n := 1; q.Get(fmt.Sprintf("Filter.%d.Name", n)) != ""; n++ {
			has, known := is[q.Get(fmt.Sprintf("Filter.%d.Name", n))]
			if !known {
				refuse("InvalidParameterValue", "filter")
				return
			}
			hit := false
			for v := 1; q.Get(fmt.Sprintf("Filter.%d.Value.%d", n, v)) != ""; v++ {
				if v > 200 {
					refuse("FilterLimitExceeded", "200 values")
					return
				}
				hit = hit || slices.Contains(has, q.Get(fmt.Sprintf("Filter.%d.Value.%d", n, v)))
			}
			take = take && hit
		}
		if take {
			match = append(match, id)
		}
	}
	from, next := 0, ""
	fmt.Sscan(q.Get("NextToken"), &from)
	if f.perPage > 0 && from+f.perPage < len(match) {
		next = fmt.Sprintf("<nextToken>%d</nextToken>", from+f.perPage)
		match = match[:from+f.perPage]
	}
	var items strings.Builder
	for _, id := range match[from:] {
		mac, instance := "", "i-"+id[len("eni-"):]
		for m, of := range f.macs {
			if of == id {
				mac = m
			}
		}
		fmt.Fprintf(&items, "<item><networkInterfaceId>%s</networkInterfaceId><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId><availabilityZone>%sa</availabilityZone><macAddress>%s</macAddress><status>in-use</status><attachment><instanceId>%s</instanceId><deviceIndex>0</deviceIndex></attachment><privateIpAddressesSet>", id, region, mac, instance)
		for i, a := range f.enis[id] {
			public := ""
			if p := f.publics[a]; p != "" {
				public = "<association><publicIp>" + p + "</publicIp></association>"
			}
			fmt.Fprintf(&items, "<item><privateIpAddress>%s</privateIpAddress><primary>%t</primary>%s</item>", a, i == 0, public)
		}
		items.WriteString("</privateIpAddressesSet></item>")
	}
	fmt.Fprintf(w, `<DescribeNetworkInterfacesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>req-2</requestId><networkInterfaceSet>%s</networkInterfaceSet>%s</DescribeNetworkInterfacesResponse>`, items.String(), next)
}

// signed says what is wrong with the signature of a request (AWS "Signature Version 4", by its own steps).
func (f *fake) signed(r *http.Request, body []byte) string {
	var id, scope, names, signature string
	for part := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ", ") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "Credential":
			id, scope, _ = strings.Cut(value, "/")
		case "SignedHeaders":
			names = value
		case "Signature":
			signature = value
		}
	}
	at := r.Header.Get("X-Amz-Date")
	if when, err := time.Parse("20060102T150405Z", at); err != nil || time.Since(when).Abs() > 5*time.Minute || len(at) < 8 {
		return "date " + at
	}
	if id != "AKID" || scope != at[:8]+"/"+region+"/ec2/aws4_request" || r.Header.Get("X-Amz-Security-Token") != "session" {
		return "credential " + id + " " + scope
	}
	var canonical strings.Builder
	fmt.Fprintf(&canonical, "%s\n%s\n%s\n", r.Method, r.URL.EscapedPath(), r.URL.RawQuery)
	for name := range strings.SplitSeq(names, ";") {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		fmt.Fprintf(&canonical, "%s:%s\n", name, value)
	}
	sum := sha256.Sum256(body)
	fmt.Fprintf(&canonical, "\n%s\n%x", names, sum)
	hashed := sha256.Sum256([]byte(canonical.String()))
	key := []byte("AWS4" + f.secret)
	for _, part := range strings.Split(scope, "/") {
		key = mac(key, part)
	}
	if want := hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n"+at+"\n"+scope+"\n"+hex.EncodeToString(hashed[:]))); want != signature {
		return "signature"
	}
	return ""
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func (f *fake) imds(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.URL.Path == "/latest/api/token" {
		if r.Method != http.MethodPut || r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		token := fmt.Sprintf("token-%d", len(f.tokens))
		f.tokens[token] = true
		_, _ = io.WriteString(w, token)
		return
	}
	if !f.tokens[r.Header.Get("X-aws-ec2-metadata-token")] {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/latest/meta-data/")
	if rest, ok := strings.CutPrefix(path, "network/interfaces/macs/"); ok {
		mac, what, _ := strings.Cut(rest, "/")
		id, known := f.macs[mac]
		text := map[string]string{"interface-id": id, "local-ipv4s": strings.Join(f.enis[id], "\n"), "vpc-id": "vpc-1"}[what]
		if !known || text == "" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, text)
		return
	}
	if path == "iam/security-credentials/ha" {
		f.keys++
	}
	text, ok := map[string]string{
		"placement/region": region, "placement/availability-zone": region + "a", "instance-id": "i-1", "mac": macA, "iam/security-credentials/": "ha",
		"iam/security-credentials/ha": fmt.Sprintf(`{"Code":"Success","AccessKeyId":"AKID","SecretAccessKey":%q,"Token":"session","Expiration":%q}`, f.secret, f.expires.UTC().Format(time.RFC3339)),
	}[path]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = io.WriteString(w, text)
}
