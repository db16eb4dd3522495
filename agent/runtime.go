package agent

import (
	"log/slog"
	"os"
	"runtime/debug"

	"havip-cluster/internal/realtime"
)

// gcPercent keeps the resident memory of an idle node small: it allocates little, so collections
// are seldom, and the memory between them is all the same resident. GOGC wins over it.
const gcPercent = 50

// tuneRuntime sets what Go's runtime does with memory and threads; the environment wins. Places in the
// scheduler for what renews and answers are added where that is here (openDatagrams).
func tuneRuntime(log *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := realtime.TuneScheduler(realtime.Spare); err != nil {
		log.Debug("this process wakes more often than it has to", "err", err)
	}
}
