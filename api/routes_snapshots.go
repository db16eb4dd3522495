package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// SavedSnapshot is a snapshot that a voter saved by itself.
type SavedSnapshot struct {
	Node  string    `json:"node" doc:"That has the file"`
	File  string    `json:"file" doc:"Its path there"`
	Bytes int64     `json:"bytes"`
	Index uint64    `json:"index" doc:"Of the last command in it"`
	Made  time.Time `json:"made"`
}

type savedReply struct{ Body []SavedSnapshot }

// snapshotRoutes are about what this node has on its own disk: no leader is asked.
func (s *Server) snapshotRoutes() {
	op := huma.Operation{Method: http.MethodGet, Path: "/v1/snapshots", OperationID: "list-snapshots", Summary: "Snapshots that this node has saved by itself, newest first", Errors: readErrors}
	huma.Register(s.huma, op, func(context.Context, *struct{}) (*savedReply, error) {
		out := []SavedSnapshot{}
		if s.Snapshots != nil {
			list, err := s.Snapshots()
			if err != nil {
				return nil, problemOf(err)
			}
			out = append(out, list...)
		}
		return &savedReply{out}, nil
	})
}

// Snapshots lists what the node that is asked has saved by itself, newest first.
func (c *Client) Snapshots(ctx context.Context) ([]SavedSnapshot, error) {
	return get[[]SavedSnapshot](ctx, c, "/v1/snapshots", nil)
}
