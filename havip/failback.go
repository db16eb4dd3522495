package havip

import (
	"fmt"
	"havip-cluster/internal/plain"
	"regexp"
	"strconv"
	"time"
)

// FailbackKind says when a HAVIP may move for a wish.
type FailbackKind string

const (
	FailbackNever     FailbackKind = "never"
	FailbackImmediate FailbackKind = "immediate"
	FailbackDelay     FailbackKind = "delay"
	FailbackWindow    FailbackKind = "window"
)

// Failback is the parsed form of Spec.Failback.
type Failback struct {
	Kind  FailbackKind
	Delay time.Duration // of kind delay: how long the better node must have been back
	// From and To are minutes of the day in UTC, 0..1439, of kind window. The window holds
	// From and not To, and runs over midnight when To is before From.
	From, To int
}

var failbackWindow = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])$`)

// ParseFailback reads never (also ""), immediate, a delay such as 5m, or a daily window
// in UTC such as 02:00-04:00. The error says what there is to choose from.
func ParseFailback(text string) (Failback, error) {
	switch text {
	case "", string(FailbackNever):
		return Failback{Kind: FailbackNever}, nil
	case string(FailbackImmediate):
		return Failback{Kind: FailbackImmediate}, nil
	}
	if m := failbackWindow.FindStringSubmatch(text); m != nil {
		f := Failback{Kind: FailbackWindow, From: minutes(m[1], m[2]), To: minutes(m[3], m[4])}
		if f.From == f.To {
			return Failback{}, fmt.Errorf("the failback window %s is empty; for the whole day say immediate", text)
		}
		return f, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 && d <= FailbackMax {
		return Failback{Kind: FailbackDelay, Delay: d}, nil
	}
	return Failback{}, fmt.Errorf("%q is not a failback: never, immediate, a delay such as 5m, up to %s, or a daily window in UTC such as 02:00-04:00", plain.Cut(text, 60), FailbackMax)
}

func minutes(hour, minute string) int {
	h, _ := strconv.Atoi(hour) // the expression lets digits through only
	m, _ := strconv.Atoi(minute)
	return h*60 + m
}

// FailbackOf reads a failback policy; what it does not know counts as never.
func FailbackOf(text string) Failback {
	if text == "" || text == string(FailbackNever) {
		return Failback{Kind: FailbackNever}
	}
	f, err := ParseFailback(text)
	if err != nil {
		return Failback{Kind: FailbackNever}
	}
	return f
}

// InWindow reports whether a clock reading in unix nanoseconds lies in the daily window.
func (f Failback) InWindow(at int64) bool {
	const day, minute = int64(24 * time.Hour), int64(time.Minute)
	now := int((at%day + day) % day / minute)
	if f.From < f.To {
		return f.From <= now && now < f.To
	}
	return now >= f.From || now < f.To
}

// Opens is how long it takes from a clock reading until the window is open; 0 inside.
func (f Failback) Opens(at int64) time.Duration {
	if f.InWindow(at) {
		return 0
	}
	const day = int64(24 * time.Hour)
	return time.Duration(((int64(f.From)*int64(time.Minute)-at)%day + day) % day)
}

// String is the form that ParseFailback reads.
func (f Failback) String() string {
	switch f.Kind {
	case FailbackDelay:
		return f.Delay.String()
	case FailbackWindow:
		return fmt.Sprintf("%02d:%02d-%02d:%02d", f.From/60, f.From%60, f.To/60, f.To%60)
	}
	return string(f.Kind)
}
