package netdev

import "errors"

// SweepRoutes removes every rule and route of ours, also of an earlier process. It tries all before it reports an error.
func SweepRoutes() error {
	r, err := NewRouter()
	if err != nil {
		return err
	}
	defer r.Close()
	now, err := r.Read()
	if err != nil {
		return err
	}
	return errors.Join(r.Apply(now.Changes(nil))...)
}
