package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"havip-cluster/fsm"
)

// The methods of Client, one for each operation. stale reads ask nobody but the node.

func reading(stale bool) url.Values {
	if stale {
		return url.Values{"consistency": {"stale"}}
	}
	return nil
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	var out T
	err := c.do(ctx, call{method: http.MethodGet, path: path, query: query, into: &out})
	return out, err
}

// change sends a change with a key of its own, and returns what it shows.
func change[T any](ctx context.Context, c *Client, method, path string, query url.Values, body any) (T, error) {
	var out T
	err := c.do(ctx, call{method: method, path: path, query: query, key: NewKey(), body: body, into: &out})
	return out, err
}

func release(on bool) url.Values {
	if on {
		return url.Values{"release": {"true"}}
	}
	return nil
}

// Status is the health at a glance.
func (c *Client) Status(ctx context.Context, stale bool) (Status, error) {
	return get[Status](ctx, c, "/v1/status", reading(stale))
}

// Cluster shows the cluster.
func (c *Client) Cluster(ctx context.Context) (Cluster, error) {
	return get[Cluster](ctx, c, "/v1/cluster", nil)
}

// UpdateCluster changes the cluster. force sets a lease that a node would have lost of late.
func (c *Client) UpdateCluster(ctx context.Context, b ClusterChange, force bool) (Cluster, error) {
	query := url.Values{}
	if force {
		query.Set("force", "true")
	}
	return change[Cluster](ctx, c, http.MethodPatch, "/v1/cluster", query, b)
}

func nodeURL(name string) string { return "/v1/nodes/" + url.PathEscape(name) }

// Nodes lists the nodes.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	return get[[]Node](ctx, c, "/v1/nodes", nil)
}

// Node shows one node.
func (c *Client) Node(ctx context.Context, name string) (Node, error) {
	return get[Node](ctx, c, "/v1/nodes/"+url.PathEscape(name), nil)
}

// UpdateNode changes a node.
func (c *Client) UpdateNode(ctx context.Context, name string, b NodeChange) (Node, error) {
	return change[Node](ctx, c, http.MethodPatch, "/v1/nodes/"+url.PathEscape(name), nil, b)
}

// ActivateNode ends standby and draining.
func (c *Client) ActivateNode(ctx context.Context, name string) (Node, error) {
	return change[Node](ctx, c, http.MethodPost, nodeURL(name)+"/activate", nil, nil)
}

// DrainNode begins a drain.
func (c *Client) DrainNode(ctx context.Context, name string, b DrainSpec) (Drain, error) {
	return change[Drain](ctx, c, http.MethodPost, nodeURL(name)+"/drain", nil, b)
}

// Drain says how far a drain has come.
func (c *Client) Drain(ctx context.Context, name string) (Drain, error) {
	return get[Drain](ctx, c, nodeURL(name)+"/drain", nil)
}

// RemoveNode removes a node and waits for it.
func (c *Client) RemoveNode(ctx context.Context, name string, forced, keepCA bool) (Done, error) {
	query := url.Values{}
	for word, on := range map[string]bool{"force": forced, "keep_ca": keepCA} {
		if on {
			query.Set(word, "true")
		}
	}
	return change[Done](ctx, c, http.MethodDelete, "/v1/nodes/"+url.PathEscape(name), query, nil)
}

// Sign asks a node that holds the CA's key for the certificate of a member.
func (c *Client) Sign(ctx context.Context, node string, csr []byte) ([]byte, error) {
	var out Signed
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/internal/certificates", body: SignRequest{Node: node, CSR: string(csr)}, into: &out})
	return []byte(out.Certificate), err
}

// AccessTokens lists the tokens of people and programs.
func (c *Client) AccessTokens(ctx context.Context) ([]AccessToken, error) {
	return get[[]AccessToken](ctx, c, "/v1/access-tokens", nil)
}

// CreateAccessToken makes one.
func (c *Client) CreateAccessToken(ctx context.Context, b AccessTokenSpec) (AccessToken, error) {
	return change[AccessToken](ctx, c, http.MethodPost, "/v1/access-tokens", nil, b)
}

// RevokeAccessToken ends one.
func (c *Client) RevokeAccessToken(ctx context.Context, name string) (Done, error) {
	return change[Done](ctx, c, http.MethodDelete, "/v1/access-tokens/"+url.PathEscape(name), nil, nil)
}

// Audit lists who changed what after a time; zero = as far as it is remembered.
func (c *Client) Audit(ctx context.Context, since time.Time) ([]AuditEntry, error) {
	query := url.Values{}
	if !since.IsZero() {
		query.Set("since", since.UTC().Format(time.RFC3339Nano))
	}
	return get[[]AuditEntry](ctx, c, "/v1/audit", query)
}

// CreateToken makes a join token.
func (c *Client) CreateToken(ctx context.Context, b TokenSpec) (Token, error) {
	return change[Token](ctx, c, http.MethodPost, "/v1/tokens", nil, b)
}

// Join asks to be let in.
func (c *Client) Join(ctx context.Context, b Join) (JoinAnswer, error) {
	return change[JoinAnswer](ctx, c, http.MethodPost, "/v1/join", nil, b)
}

// Subnets lists the subnets.
func (c *Client) Subnets(ctx context.Context) ([]Subnet, error) {
	return get[[]Subnet](ctx, c, "/v1/subnets", nil)
}

// Subnet shows one subnet.
func (c *Client) Subnet(ctx context.Context, name string) (Subnet, error) {
	return get[Subnet](ctx, c, "/v1/subnets/"+url.PathEscape(name), nil)
}

// CreateSubnet makes a subnet.
func (c *Client) CreateSubnet(ctx context.Context, b SubnetSpec) (Subnet, error) {
	return change[Subnet](ctx, c, http.MethodPost, "/v1/subnets", nil, b)
}

// DeleteSubnet deletes a subnet.
func (c *Client) DeleteSubnet(ctx context.Context, name string) (Done, error) {
	return change[Done](ctx, c, http.MethodDelete, "/v1/subnets/"+url.PathEscape(name), nil, nil)
}

// ENIs lists the ENIs.
func (c *Client) ENIs(ctx context.Context) ([]ENI, error) { return get[[]ENI](ctx, c, "/v1/enis", nil) }

// ENI shows one ENI.
func (c *Client) ENI(ctx context.Context, id string) (ENI, error) {
	return get[ENI](ctx, c, "/v1/enis/"+url.PathEscape(id), nil)
}

// SetENI says what the inventory cannot know.
func (c *Client) SetENI(ctx context.Context, id string, b ENIChange) (ENI, error) {
	return change[ENI](ctx, c, http.MethodPatch, "/v1/enis/"+url.PathEscape(id), nil, b)
}

func havipURL(name string) string { return "/v1/havips/" + url.PathEscape(name) }

// HAVIPs lists the HAVIPs.
func (c *Client) HAVIPs(ctx context.Context) ([]HAVIP, error) {
	return get[[]HAVIP](ctx, c, "/v1/havips", nil)
}

// HAVIP shows one HAVIP.
func (c *Client) HAVIP(ctx context.Context, name string) (HAVIP, error) {
	return get[HAVIP](ctx, c, havipURL(name), nil)
}

// CreateHAVIP makes a HAVIP.
func (c *Client) CreateHAVIP(ctx context.Context, b HAVIPSpec) (HAVIP, error) {
	return change[HAVIP](ctx, c, http.MethodPost, "/v1/havips", nil, b)
}

// UpdateHAVIP changes a HAVIP. It looks the id up first: a repeat by a name that the first
// attempt changed would not find it.
func (c *Client) UpdateHAVIP(ctx context.Context, name string, b HAVIPChange) (HAVIP, error) {
	if b.Name != nil {
		v, err := c.HAVIP(ctx, name)
		if err != nil {
			return v, err
		}
		name = v.ID
	}
	return change[HAVIP](ctx, c, http.MethodPatch, havipURL(name), nil, b)
}

// DeleteHAVIP deletes a HAVIP.
func (c *Client) DeleteHAVIP(ctx context.Context, name string, forced bool) (Done, error) {
	v, err := c.HAVIP(ctx, name) // by id, for the same reason as UpdateHAVIP
	if err != nil {
		return Done{}, err
	}
	return change[Done](ctx, c, http.MethodDelete, havipURL(v.ID), release(forced), nil)
}

// EnableHAVIP lets a HAVIP be owned, or by nobody.
func (c *Client) EnableHAVIP(ctx context.Context, name string, on bool) (HAVIP, error) {
	word := map[bool]string{true: "/enable", false: "/disable"}[on]
	return change[HAVIP](ctx, c, http.MethodPost, havipURL(name)+word, nil, nil)
}

// MoveHAVIP moves a HAVIP to a node or an ENI.
func (c *Client) MoveHAVIP(ctx context.Context, name, to string) (HAVIP, error) {
	return change[HAVIP](ctx, c, http.MethodPost, havipURL(name)+"/move", nil, MoveTarget{To: to})
}

// ChangeRange adds and removes members of a range.
func (c *Client) ChangeRange(ctx context.Context, name string, m RangeChange) (HAVIP, error) {
	return change[HAVIP](ctx, c, http.MethodPost, havipURL(name)+"/range", nil, m)
}

// ChangeBans bans and unbans nodes or ENIs.
func (c *Client) ChangeBans(ctx context.Context, name string, m BanChange) (HAVIP, error) {
	return change[HAVIP](ctx, c, http.MethodPost, havipURL(name)+"/bans", nil, m)
}

// BindEIP records an elastic address.
func (c *Client) BindEIP(ctx context.Context, name, eip string) (HAVIP, error) {
	return change[HAVIP](ctx, c, http.MethodPost, havipURL(name)+"/eip", nil, EIPSpec{EIP: eip})
}

// UnbindEIP takes the record away.
func (c *Client) UnbindEIP(ctx context.Context, name string) (HAVIP, error) {
	return change[HAVIP](ctx, c, http.MethodDelete, havipURL(name)+"/eip", nil, nil)
}

// ClearFailures forgets failures of a HAVIP on a node; "" means all.
func (c *Client) ClearFailures(ctx context.Context, havip, node string) (Done, error) {
	q := url.Values{}
	for name, value := range map[string]string{"havip": havip, "node": node} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return change[Done](ctx, c, http.MethodDelete, "/v1/failures", q, nil)
}

// Groups lists the groups.
func (c *Client) Groups(ctx context.Context) ([]Group, error) {
	return get[[]Group](ctx, c, "/v1/groups", nil)
}

// Group shows one group.
func (c *Client) Group(ctx context.Context, name string) (Group, error) {
	return get[Group](ctx, c, "/v1/groups/"+url.PathEscape(name), nil)
}

// CreateGroup makes a group.
func (c *Client) CreateGroup(ctx context.Context, b GroupSpec) (Group, error) {
	return change[Group](ctx, c, http.MethodPost, "/v1/groups", nil, b)
}

// DeleteGroup deletes a group.
func (c *Client) DeleteGroup(ctx context.Context, name string) (Done, error) {
	return change[Done](ctx, c, http.MethodDelete, "/v1/groups/"+url.PathEscape(name), nil, nil)
}

// Placement says who owns what; no names means all.
func (c *Client) Placement(ctx context.Context, names []string, stale bool) ([]Placement, error) {
	q := url.Values{"havip": names}
	if stale {
		q.Set("consistency", "stale")
	}
	return get[[]Placement](ctx, c, "/v1/placement", q)
}

// Explain says why a HAVIP is where it is; with an epoch or a time, why it was there.
func (c *Client) Explain(ctx context.Context, name string, epoch uint64, at time.Time) (Explanation, error) {
	q := url.Values{}
	if epoch != 0 {
		q.Set("epoch", strconv.FormatUint(epoch, 10))
	}
	if !at.IsZero() {
		q.Set("at", at.UTC().Format(time.RFC3339Nano))
	}
	return get[Explanation](ctx, c, havipURL(name)+"/explain", q)
}

// Failovers lists the timelines, of one HAVIP or of all.
func (c *Client) Failovers(ctx context.Context, havip string) ([]Failover, error) {
	return get[[]Failover](ctx, c, "/v1/failovers", filter(havip))
}

// Events lists the journal, of one HAVIP or of all; kept adds what only the files of the asked node
// still have.
func (c *Client) Events(ctx context.Context, havip string, kept bool) ([]Event, error) {
	q := filter(havip)
	if kept {
		q = url.Values{"kept": {"true"}}
		if havip != "" {
			q.Set("havip", havip)
		}
	}
	return get[[]Event](ctx, c, "/v1/events", q)
}

func filter(havip string) url.Values {
	if havip == "" {
		return nil
	}
	return url.Values{"havip": {havip}}
}

// Webhooks lists the webhooks.
func (c *Client) Webhooks(ctx context.Context) ([]Webhook, error) {
	return get[[]Webhook](ctx, c, "/v1/webhooks", nil)
}

// CreateWebhook makes a webhook.
func (c *Client) CreateWebhook(ctx context.Context, b WebhookSpec) (Webhook, error) {
	return change[Webhook](ctx, c, http.MethodPost, "/v1/webhooks", nil, b)
}

// DeleteWebhook forgets a webhook.
func (c *Client) DeleteWebhook(ctx context.Context, name string) (Done, error) {
	return change[Done](ctx, c, http.MethodDelete, "/v1/webhooks/"+url.PathEscape(name), nil, nil)
}

// TestWebhook has the leader send a message of kind test now. The error is what became of it.
func (c *Client) TestWebhook(ctx context.Context, name string) (Done, error) {
	return change[Done](ctx, c, http.MethodPost, "/v1/webhooks/"+url.PathEscape(name)+"/test", nil, nil)
}

// once sends a request between nodes, without repeats: its caller looks for the leader anew.
func once[T any](ctx context.Context, c *Client, method, path string, body []byte) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, internalTimeout)
	defer cancel()
	var out T
	err := c.try(ctx, call{method: method, path: path, into: &out}, body)
	return out, err
}

// internalTimeout bounds a request between nodes.
const internalTimeout = 5 * time.Second

// ReadIndex asks the leader for the index that a linearizable read must have applied.
func (c *Client) ReadIndex(ctx context.Context) (uint64, error) {
	out, err := once[ReadIndex](ctx, c, http.MethodGet, "/v1/internal/readindex", nil)
	return out.Index, err
}

// Command proposes a command of the calling node's own life at the leader. It is sent
// once: such commands are guarded by their own contents, and their caller decides anew.
func (c *Client) Command(ctx context.Context, body fsm.Body) (fsm.Result, error) {
	cmd, err := fsm.NewCommand(0, "", "", body)
	if err != nil {
		return fsm.Result{}, err
	}
	raw, err := json.Marshal(InternalCommand{Kind: cmd.Kind, Body: cmd.Body})
	if err != nil {
		return fsm.Result{}, fmt.Errorf("api: encode %s: %w", cmd.Kind, err)
	}
	return once[fsm.Result](ctx, c, http.MethodPost, "/v1/internal/commands", raw)
}

// lineMax bounds one line of an event stream, in bytes.
const lineMax = 64 << 10

// Follow calls each with every event from the start of the journal on, until ctx ends or
// each returns an error. After a lost connection it goes on behind the last event seen.
func (c *Client) Follow(ctx context.Context, havip string, each func(Event) error) error {
	var at cursor
	for {
		err := c.stream(ctx, havip, &at, each)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if !poll(ctx, retryMax) {
			return nil
		}
	}
}

// cursor is a place in the journal: so many events of that index were seen.
type cursor struct {
	index uint64
	seen  int
}

// stream follows over one connection. nil means that it was lost after it had begun.
func (c *Client) stream(ctx context.Context, havip string, at *cursor, each func(Event) error) error {
	q := url.Values{"follow": {"true"}, "since": {strconv.FormatUint(max(at.index, 1)-1, 10)}}
	if havip != "" {
		q.Set("havip", havip)
	}
	if _, err := c.Status(ctx, true); err != nil { // with retries, and with its sentence when nobody is there
		return err
	}
	resp, err := c.send(ctx, call{method: http.MethodGet, path: "/v1/events", query: q}, nil)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, lineMax))
		return decodeProblem(resp.StatusCode, text)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, lineMax)
	skip, kind := *at, ""
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			kind = value
		case "data":
			e := Event{}
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				return problem(resp.StatusCode, CodeInternal, "the event stream of %s is not ours: %v", c.where, err)
			}
			if kind == "gap" {
				e.Kind, e.Text = kind, "events were lost: the reader was away for longer than the journal reaches back"
			} else if e.Index == skip.index && skip.seen > 0 {
				skip.seen-- // seen over the connection before
				continue
			} else if at.index == e.Index {
				at.seen++
			} else {
				*at = cursor{index: e.Index, seen: 1}
			}
			if err := each(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Clock is what the node's wall clock says, in whole seconds.
func (c *Client) Clock(ctx context.Context) (time.Time, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/healthz", nil)
	if err != nil {
		return time.Time{}, fmt.Errorf("api: %w", err)
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return time.Time{}, fmt.Errorf("api: %w", err)
	}
	_, _ = io.CopyN(io.Discard, answer.Body, healthMax) // so that the connection can be used again
	_ = answer.Body.Close()
	return http.ParseTime(answer.Header.Get("Date"))
}

// healthMax is more than an answer about health takes, in bytes.
const healthMax = 4 << 10
