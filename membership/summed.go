package membership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// ErrDamagedEntry is returned for an entry of the log that is not what was written. A node that
// went on with it would differ from the others for good.
var ErrDamagedEntry = errors.New("membership: an entry of the log is damaged")

// sumVersion is the first byte of an entry's checksum: CRC-32C over index, term, type and data.
const sumVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// summedLog is a log store whose entries carry a checksum, in the field that raft keeps for the
// store (raft.Log.Extensions). Entries of the version before have none, and are believed.
type summedLog struct{ raft.LogStore }

// StoreLog implements raft.LogStore.
func (s summedLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. The caller's entries stay as they are.
func (s summedLog) StoreLogs(logs []*raft.Log) error {
	out := make([]*raft.Log, len(logs))
	for i, l := range logs {
		c := *l
		c.Extensions = sumOf(l)
		out[i] = &c
	}
	return s.LogStore.StoreLogs(out)
}

// GetLog implements raft.LogStore. It returns ErrDamagedEntry.
func (s summedLog) GetLog(index uint64, l *raft.Log) error {
	if err := s.LogStore.GetLog(index, l); err != nil {
		return err
	}
	return checkSum(index, l)
}

func sumOf(l *raft.Log) []byte {
	head := binary.BigEndian.AppendUint64(nil, l.Index)
	head = append(binary.BigEndian.AppendUint64(head, l.Term), byte(l.Type))
	sum := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, l.Data)
	return binary.BigEndian.AppendUint32([]byte{sumVersion}, sum)
}

// checkSum compares an entry that was read with its checksum.
func checkSum(index uint64, l *raft.Log) error {
	switch {
	case l.Index != index:
		return fmt.Errorf("%w: at %d there is entry %d", ErrDamagedEntry, index, l.Index)
	case len(l.Extensions) > 0 && string(l.Extensions) != string(sumOf(l)):
		return fmt.Errorf("%w: entry %d", ErrDamagedEntry, index)
	}
	return nil
}

// checkEntries reads the whole log once, before Raft does. wayOut is what an operator may do about
// a damaged entry.
func checkEntries(dir string, log raft.LogStore, wayOut string) error {
	first, err := log.FirstIndex()
	if err != nil {
		return fmt.Errorf("membership: read the log in %s: %w", dir, err)
	}
	last, err := log.LastIndex()
	if err != nil {
		return fmt.Errorf("membership: read the log in %s: %w", dir, err)
	}
	for i := first; i <= last && first > 0; i++ {
		var l raft.Log
		err := log.GetLog(i, &l)
		switch {
		case errors.Is(err, raft.ErrLogNotFound):
			continue // a hole is for others to judge
		case err != nil:
			err = fmt.Errorf("%w: entry %d: %w", ErrDamagedEntry, i, err)
		default:
			err = checkSum(i, &l)
		}
		if err != nil {
			return fmt.Errorf("%w (%s); %s", err, dir, wayOut)
		}
	}
	return nil
}
