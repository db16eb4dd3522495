//go:build race

package api

// raceDetector: it makes what works on megabytes ten times slower. `make test` runs those without it, too.
const raceDetector = true
