package agent

import (
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"

	"havip-cluster/internal/realtime"
)

const (
	// spareProcessors are what Go's scheduler has beyond the cores, for the threads that renew and answer:
	// back from the kernel, each goes on at once, and does not wait for a goroutine to give its place up.
	spareProcessors = 2
	// gcPercent keeps the resident memory of an idle node small: it allocates little, so collections
	// are seldom, and the memory between them is all the same resident. GOGC wins over it.
	gcPercent = 50
)

// tuneRuntime sets what Go's runtime does with memory and threads; the environment wins.
func tuneRuntime(log *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spareProcessors)
	}
	if err := realtime.RelaxMonitor(); err != nil {
		log.Debug("this process wakes more often than it has to", "err", err)
	}
}
