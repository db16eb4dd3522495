package membership

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// hclogBridge lets Raft log through slog. Raft's Info becomes Debug: elections and
// replication are of interest to its developers, and our own lines tell the operator.
type hclogBridge struct {
	hclog.Logger // a null logger for what is not overridden
	l            *slog.Logger
}

func newHCLog(l *slog.Logger) hclog.Logger { return hclogBridge{hclog.NewNullLogger(), l} }

func (b hclogBridge) log(level slog.Level, msg string, args []any) {
	if !b.l.Enabled(context.Background(), level) {
		return
	}
	for i, a := range args {
		switch a := a.(type) {
		case hclog.Format:
			if text, ok := a[0].(string); ok {
				args[i] = fmt.Sprintf(text, a[1:]...)
			}
		case fmt.Stringer: // Raft passes itself, which nobody else may look into
			args[i] = a.String()
		}
	}
	b.l.Log(context.Background(), level, "raft: "+msg, args...)
}

func (b hclogBridge) Trace(string, ...any)          {}
func (b hclogBridge) Debug(msg string, args ...any) { b.log(slog.LevelDebug, msg, args) }
func (b hclogBridge) Info(msg string, args ...any)  { b.log(slog.LevelDebug, msg, args) }
func (b hclogBridge) Warn(msg string, args ...any)  { b.log(slog.LevelInfo, msg, args) }
func (b hclogBridge) Error(msg string, args ...any) { b.log(slog.LevelInfo, msg, args) }

func (b hclogBridge) Log(level hclog.Level, msg string, args ...any) {
	if level >= hclog.Warn {
		b.Warn(msg, args...)
		return
	}
	b.Debug(msg, args...)
}

func (b hclogBridge) With(args ...any) hclog.Logger  { return hclogBridge{b.Logger, b.l.With(args...)} }
func (b hclogBridge) Named(string) hclog.Logger      { return b }
func (b hclogBridge) ResetNamed(string) hclog.Logger { return b }
func (b hclogBridge) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(io.Discard, "", 0)
}
