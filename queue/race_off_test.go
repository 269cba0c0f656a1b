//go:build !race

package queue_test

// raceDetector: what it watches takes ten times as long.
const raceDetector = false
