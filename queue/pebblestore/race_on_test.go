//go:build race

package pebblestore

// raceDetector: shadow memory counts as resident.
const raceDetector = true
