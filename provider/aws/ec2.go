package aws

import (
	"context"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/smithy-go/aws-http-auth/sigv4"

	"havip-cluster/provider"
)

const (
	// version is that of the EC2 query API.
	version = "2016-11-15"
	// apiWait bounds one request, apiMax its answer in bytes.
	apiWait = 10 * time.Second
	apiMax  = 1 << 20
)

// later are the codes after which the same call may succeed (EC2 API reference, "Error codes").
var later = []string{"RequestLimitExceeded", "Throttling", "InternalError", "InternalFailure", "Unavailable", "ServiceUnavailable", "InsufficientInstanceCapacity", "RequestTimeout"}

// denied are those about who asks.
var denied = []string{"AuthFailure", "UnauthorizedOperation", "Blocked", "ExpiredToken", "RequestExpired", "InvalidClientTokenId", "SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken", "OptInRequired", "PendingVerification"}

// faults is the form of a refusal.
type faults struct {
	Errors []struct {
		Code    string `xml:"Code"`
		Message string `xml:"Message"`
	} `xml:"Errors>Error"`
	Request string `xml:"RequestID"`
}

// call makes one signed request; answer takes its body.
func (p *Provider) call(ctx context.Context, action string, parameters url.Values, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, apiWait)
	defer cancel()
	region, err := p.region(ctx)
	if err != nil {
		return err
	}
	keys, _, err := p.meta.credentials(ctx, p.cfg.Role)
	if err != nil {
		return err
	}
	parameters.Set("Action", action)
	parameters.Set("Version", version)
	body := parameters.Encode()
	endpoint := p.cfg.Endpoint
	if endpoint == "" {
		endpoint = "https://ec2." + region + ".amazonaws.com"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(endpoint, "/")+"/", strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("aws: %s: %w", action, err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	sum := sha256.Sum256([]byte(body))
	if err := sigv4.New().SignRequest(&sigv4.SignRequestInput{Request: r, PayloadHash: sum[:], Credentials: keys, Service: "ec2", Region: region}); err != nil {
		return fmt.Errorf("aws: %s: sign: %w", action, err)
	}
	res, err := p.http.Do(r)
	if err != nil {
		return fmt.Errorf("aws: %s: %w: %w", action, provider.ErrUnavailable, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, apiMax))
	if err != nil {
		return fmt.Errorf("aws: %s: %w: %w", action, provider.ErrUnavailable, err)
	}
	if res.StatusCode != http.StatusOK {
		return p.refused(action, res.Status, text)
	}
	if err := xml.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("aws: %s: %w: the answer is not what the API's reference says: %w", action, provider.ErrUnavailable, err)
	}
	return nil
}

// refused makes an error of a refusal, with what it means for the caller.
func (p *Provider) refused(action, status string, text []byte) error {
	var f faults
	if err := xml.Unmarshal(text, &f); err != nil || len(f.Errors) == 0 {
		return fmt.Errorf("aws: %s: %w: it answers %s", action, provider.ErrUnavailable, status)
	}
	e := &provider.Error{Code: f.Errors[0].Code, Message: f.Errors[0].Message, Request: f.Request}
	switch {
	case slices.Contains(later, e.Code):
		return fmt.Errorf("aws: %s: %w: %w", action, provider.ErrUnavailable, e)
	case slices.Contains(denied, e.Code):
		p.meta.forget() // others may be there by now
		return fmt.Errorf("aws: %s: %w: %w", action, provider.ErrCredentials, e)
	}
	return fmt.Errorf("aws: %s: %w", action, e)
}
