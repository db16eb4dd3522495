package membership

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

const (
	sponsorsFile = "sponsors.json" // in the raft folder; made when the node joined
	sponsorsMax  = 64
)

// sponsor is one voter in the file.
type sponsor struct {
	Node    string `json:"node"`
	Address string `json:"address"`
}

func writeSponsors(dir string, list []raft.Server) error {
	if len(list) == 0 {
		return nil
	}
	if len(list) > sponsorsMax {
		return fmt.Errorf("membership: the cluster named %d voters; more than %d make no sense", len(list), sponsorsMax)
	}
	var out []sponsor
	for _, s := range list {
		out = append(out, sponsor{string(s.ID), string(s.Address)})
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, sponsorsFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("membership: write %s: %w", f.Name(), err)
	}
	return nil
}

// readSponsors returns the voters that the cluster named when the node joined; none for its
// first node, and for one that joined through an older version.
func readSponsors(dir string) ([]raft.Server, error) {
	path := filepath.Join(dir, sponsorsFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []sponsor
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err == nil && (len(list) == 0 || len(list) > sponsorsMax) {
		err = fmt.Errorf("it names %d voters", len(list))
	}
	if err != nil {
		return nil, fmt.Errorf("membership: %s cannot be used: %w; %s", path, err, joinAgain)
	}
	var out []raft.Server
	for _, s := range list {
		out = append(out, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(s.Node), Address: raft.ServerAddress(s.Address)})
	}
	return out, nil
}
