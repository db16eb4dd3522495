package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"havip-cluster/fsm"
	"havip-cluster/membership/identity"
)

// AccessTokenSpec is a new token of a person or a program.
type AccessTokenSpec struct {
	Name       string `json:"name"`
	Role       string `json:"role" enum:"viewer,operator,admin"`
	Group      string `json:"group,omitempty" doc:"It may touch the HAVIPs of this group alone"`
	TTLSeconds int64  `json:"ttl_seconds,omitempty" minimum:"60" maximum:"315360000" doc:"Absent: it does not end"`
}

// AccessToken is a token as the cluster knows it. Token is there once, in the answer that made it.
type AccessToken struct {
	Name    string     `json:"name"`
	Role    string     `json:"role" enum:"viewer,operator,admin"`
	Group   string     `json:"group,omitempty"`
	Expires *time.Time `json:"expires" doc:"null: never"`
	Created time.Time  `json:"created"`
	By      string     `json:"by,omitempty" doc:"The principal that made it"`
	Expired bool       `json:"expired"`
	Token   string     `json:"token,omitempty" doc:"What its bearer shows; it cannot be had again"`
}

type accessTokenCreate struct {
	Key
	Body AccessTokenSpec
}

func accessTokenView(c fsm.Credential, now time.Time) AccessToken {
	return AccessToken{
		Name: c.Name, Role: string(c.Right), Group: c.Group, Expires: timeOrNull(c.Expires), Created: wall(c.Created), By: c.By,
		Expired: c.Expired(now.UnixNano()),
	}
}

// accessRoutes make, list and revoke tokens. As with join tokens the secret is drawn anew for
// every request, so a repeat finds the name taken: revoke it and begin again.
func (s *Server) accessRoutes() {
	read(s, "/v1/access-tokens", "list-access-tokens", "Tokens of people and programs, without their secrets", func(st *fsm.State, _ *Consistency) ([]AccessToken, error) {
		out := []AccessToken{}
		for _, c := range st.CredentialList() {
			out = append(out, accessTokenView(c, time.Now()))
		}
		return out, nil
	})
	op := huma.Operation{
		Method: http.MethodPost, Path: "/v1/access-tokens", OperationID: "create-access-token", Summary: "Make a token for a person or a program",
		DefaultStatus: http.StatusCreated, Errors: writeErrors, MaxBodyBytes: -1, BodyReadTimeout: -1,
	}
	huma.Register(s.huma, op, func(ctx context.Context, in *accessTokenCreate) (*reply[AccessToken], error) {
		t := identity.NewAccessToken()
		cred := fsm.Credential{ID: t.ID, Name: in.Body.Name, SecretHash: identity.SecretHash(t.Secret), Right: fsm.Right(in.Body.Role), Group: in.Body.Group}
		if in.Body.TTLSeconds != 0 {
			cred.Expires = time.Now().Add(duration(in.Body.TTLSeconds, time.Second)).UnixNano()
		}
		res, err := s.commit(ctx, "", one(fsm.CreateCredential{Credential: cred}))
		if err == nil && res.Refusal != nil {
			err = res.Refusal
		}
		if err != nil {
			return nil, problemOf(err)
		}
		st := s.Backend.State()
		body := accessTokenView(st.Credentials[in.Body.Name], time.Now())
		body.Token = t.Text()
		return &reply[AccessToken]{Index: res.Index, Revision: st.Cluster.Revision, Body: body}, nil
	})
	write(s, http.MethodDelete, "/v1/access-tokens/{name}", "revoke-access-token", "End a token at once",
		func(ctx context.Context, in *nameChange) (fsm.Result, error) {
			return s.commit(ctx, in.Key.Key, one(fsm.RevokeCredential{Name: in.Name}))
		}, done)
}
